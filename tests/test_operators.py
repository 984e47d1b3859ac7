"""Operators against dense matrices, scipy, and the printed values of the literature."""

from inspect import signature

import numpy as np
import pytest
import torch
from configs import every
from hydra.utils import get_object
from omegaconf import OmegaConf

from diffgeo.analytic.measurement import Decomposed, Linear, Operator, pinv, prox
from diffgeo.config.build import build
from diffgeo.config.line import conf_dir
from diffgeo.errors import UsageError
from diffgeo.inverse import operators
from diffgeo.inverse.operators.base import Imagewise, Stored
from diffgeo.inverse.operators.resizing import BlurAndKeep, bicubic_matrix

f64 = torch.float64
# not symmetric in any way, of even height: what is flipped or shifted shows
ASYMMETRIC = torch.tensor([[1, 2, -1], [0, 3, 1], [0.5, 0, 0], [0, 0.2, 4]], dtype=f64)
SMALL = (2, 8, 6)
MASK = torch.tensor([[1, 0, 0, 1, 1, 0]] * 8)
MASK[2] = 0

LINEAR = {
    "inpaint_box": lambda: operators.inpaint_box(SMALL, size=3),
    "inpaint_random": lambda: operators.inpaint_random(SMALL, keep=0.3),
    "mask": lambda: operators.mask(SMALL, kept=MASK),
    "blur": lambda: operators.blur(SMALL, std=0.7),
    "blur even": lambda: operators.blur(SMALL, std=1.5, size=4),
    "motion": lambda: operators.motion(SMALL, size=5),
    "kernel": lambda: operators.kernel(SMALL, entries=ASYMMETRIC),
    "grey": lambda: operators.grey(SMALL),
    "grey weighted": lambda: operators.grey(SMALL, weights=[0.2, 0.7]),
    "pool": lambda: operators.pool(SMALL, factor=2),
    "sr": lambda: operators.sr(SMALL, factor=2),
    "sr even": lambda: BlurAndKeep(ASYMMETRIC, SMALL, 2),
    "bicubic": lambda: operators.bicubic(SMALL, factor=2),
    "fourier": lambda: operators.fourier(SMALL, share=0.5),
    "fourier lines": lambda: operators.fourier(SMALL, lines=3),
    "fourier odd": lambda: operators.fourier((1, 5, 7), share=0.6, seed=2),
    "fourier whole": lambda: operators.fourier((1, 4, 4), share=1.0),
    "gaussian_rows": lambda: operators.gaussian_rows(SMALL, rows=7),
    "matrix": lambda: operators.matrix((4,), entries=[[1, 0, 1, 0], [0, 2, 0, -1]]),
    "rank 1": lambda: operators.matrix((3,), entries=[[1, 2, 3], [2, 4, 6]]),
    "tall": lambda: operators.matrix((2,), entries=[[1, 2], [0, 1], [3, -1]]),
}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


def dense(operator):
    """A [m,n], one column for each unit vector."""
    numbers = int(np.prod(operator.shape))
    columns = operator(torch.eye(numbers, dtype=f64).reshape(numbers, *operator.shape))
    return columns.flatten(1).mT


@pytest.fixture(params=list(LINEAR))
def operator(request):
    return LINEAR[request.param]()


def test_the_adjoint_is_the_transpose(operator):
    x = normal(3, *operator.shape)
    z = normal(3, *operator.measured, seed=1)
    assert isinstance(operator, Linear)
    forward = (operator(x) * z).flatten(1).sum(1)
    backward = (x * operator.adjoint(z)).flatten(1).sum(1)
    assert operator(x).shape == z.shape
    assert torch.allclose(forward, backward, rtol=0, atol=1e-12)


def test_the_spectral_form_is_the_svd_of_the_dense_matrix(operator):
    assert isinstance(operator, Decomposed)
    a = dense(operator)
    x = normal(2, *operator.shape)
    y = normal(2, *operator.measured, seed=1)
    s = operator.values
    expected = torch.linalg.svdvals(a)
    assert torch.allclose(s.sort(descending=True)[0], expected[: len(s)], atol=1e-12)
    assert expected[len(s) :].numel() == 0 or expected[len(s) :].max() < 1e-12
    # U and V are orthonormal, and A = U s V'
    unit = torch.eye(len(s), dtype=f64)
    assert torch.allclose(operator.right(operator.back(unit)), unit, atol=1e-10)
    assert torch.allclose(operator.left(operator.combine(unit)), unit, atol=1e-10)
    assert torch.allclose(operator.combine(s * operator.right(x)), operator(x), atol=1e-11)
    assert torch.allclose(operator.back(s * operator.left(y)), operator.adjoint(y), atol=1e-11)
    v = operator.back(unit).flatten(1)
    assert torch.allclose(v @ v.mT, unit, atol=1e-10)


def test_the_pseudo_inverse_is_that_of_the_dense_matrix(operator):
    a = dense(operator)
    y = normal(2, *operator.measured, seed=1)
    found = pinv(operator, y)
    expected = y.flatten(1) @ torch.linalg.pinv(a, rtol=1e-13).mT
    assert torch.allclose(found.flatten(1), expected, atol=1e-9 * float(expected.abs().max()))
    x = normal(2, *operator.shape)
    assert torch.allclose(operator(pinv(operator, operator(x))), operator(x), atol=1e-10)


@pytest.mark.parametrize("rho", [1e-12, 0.3, 1e12])
def test_the_prox_solves_its_normal_equations(operator, rho):
    a = dense(operator)
    x0 = normal(2, *operator.shape)
    y = normal(2, *operator.measured, seed=1)
    found = prox(operator, x0, y, rho)
    # the minimizer of |y - A z|^2 + rho |x0 - z|^2 by least squares on the stacked matrix
    stacked = torch.cat([a, rho**0.5 * torch.eye(a.shape[1], dtype=f64)])
    wanted = torch.cat([y.flatten(1), rho**0.5 * x0.flatten(1)], 1)
    gradient = (found.flatten(1) @ stacked.mT - wanted) @ stacked
    assert gradient.abs().max() < 1e-10 * max(1.0, rho)
    each = prox(operator, x0, y, torch.tensor([rho, 2.0], dtype=f64))  # one a row
    assert torch.allclose(each[0], found[0], atol=1e-12)
    assert torch.allclose(each[1], prox(operator, x0, y, 2.0)[1], atol=1e-12)


def test_solve_inverts_what_a_measurement_can_reach(operator):
    a = dense(operator)
    y = operator(normal(2, *operator.shape))
    found = operator.solve(y, 0.4).flatten(1)
    gram = a @ a.mT + 0.4 * torch.eye(len(a), dtype=f64)
    assert torch.allclose(found @ gram.mT, y.flatten(1), atol=1e-11)


def test_operators_compute_in_the_dtype_they_are_given(operator):
    x = normal(2, *operator.shape).float()
    assert operator(x).dtype == operator.adjoint(operator(x)).dtype == torch.float32
    assert torch.allclose(operator(x).double(), operator(x.double()), atol=1e-5)


def test_convolution_is_true_and_wraps_around():
    """scipy's convolve, whose centre for even sizes is h//2 as well."""
    from scipy.ndimage import convolve

    blur = operators.kernel(SMALL, entries=ASYMMETRIC)
    x = normal(1, *SMALL)
    kernel = (ASYMMETRIC / ASYMMETRIC.sum()).numpy()
    expected = [convolve(channel, kernel, mode="wrap") for channel in x[0].numpy()]
    assert np.allclose(blur(x)[0].numpy(), np.stack(expected), rtol=0, atol=1e-14)
    # of one white pixel it makes the kernel, as it is
    delta = torch.zeros(1, *SMALL, dtype=f64)
    delta[0, 0, 4, 3] = 1
    assert np.allclose(blur(delta)[0, 0, 2:6, 2:5].numpy(), kernel, rtol=0, atol=1e-14)


def test_a_motion_kernel_is_drawn_for_each_image():
    blur = operators.motion((1, 28, 28), seed=3)
    assert isinstance(blur, Imagewise) and isinstance(blur, Stored)
    kernels = [blur.of_image(number).contents()["kernel"] for number in range(4)]
    assert torch.equal(kernels[0], blur.contents()["kernel"])
    assert torch.equal(kernels[2], operators.motion((1, 28, 28), seed=3).of_image(2).kernel)
    place = torch.arange(9, dtype=f64)
    for number, kernel in enumerate(kernels):
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-12) and kernel.min() >= 0
        centre = [float(kernel.sum(1 - axis) @ place) for axis in (0, 1)]
        assert centre == pytest.approx([4, 4], abs=0.35)  # but for what the border cuts
        assert not any(torch.allclose(kernel, other) for other in kernels[:number])


def test_an_unturned_motion_is_a_line():
    """A straight path of length 8 through the centre: its moments are those of a uniform line,
    8^2/12 along it and none across, but for the pixels' own width (at most 1/4)."""
    from diffgeo.inverse.operators.kernels import motion_kernel

    kernel = motion_kernel(0, size=9, intensity=0.0)
    place = torch.arange(9, dtype=f64) - 4
    rows = (kernel.sum(1) @ place**2).item()
    columns = (kernel.sum(0) @ place**2).item()
    across = (place @ kernel @ place).item()
    along, off = torch.linalg.eigvalsh(torch.tensor([[rows, across], [across, columns]])).flip(0)
    assert 64 / 12 <= along <= 64 / 12 + 0.25
    assert 0 <= off <= 0.26


def test_gaussian_rows_keep_lengths_in_the_mean():
    rows = operators.gaussian_rows((1, 28, 28), rows=200).entries
    columns = operators.gaussian_rows((1, 28, 28), rows=200, normalization="columns").entries
    assert torch.allclose(rows * 200**0.5, columns * 784**0.5)
    # the mean of 156800 squares of N(0,1) is 1 within 4 * sqrt(2/156800)
    assert float((rows**2).sum() * 200 / rows.numel()) == pytest.approx(1, abs=0.0143)


def test_what_inpainting_keeps():
    x = torch.arange(36, dtype=f64).reshape(1, 1, 6, 6)
    box = operators.inpaint_box((1, 6, 6), size=4)
    assert box(x).flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 11, 12, 17, 18, 23, 24, 29] + list(
        range(30, 36)
    )
    assert operators.inpaint_random((3, 10, 10), keep=0.29).measured == (3, 29)
    assert operators.inpaint_random((7,), keep=0.5, seed=1)(normal(2, 7)).shape == (2, 4)


def test_the_bicubic_matrix_is_the_printed_one():
    """Row 1 at n = 16, factor 4, and the singular values of M. To the left the mirror folds the two
    outermost taps back on the first two; to the right they lie open."""
    m = bicubic_matrix(16, 4)
    left = [-0.029297, -0.013672, 0.022705, 0.097412, 0.181885, 0.240967]
    right = [0.240967, 0.181885, 0.097412, 0.022705, -0.011963, -0.018311, -0.010986, -0.001709]
    assert m[1].tolist() == pytest.approx([*left, *right, 0, 0], abs=5.1e-7)
    assert torch.allclose(m.sum(1), torch.ones(4, dtype=f64))
    expected = [0.5, 0.497754, 0.470498, 0.399069]
    assert torch.linalg.svdvals(m).tolist() == pytest.approx(expected, abs=5e-7)


def test_bicubic_is_the_antialiased_one_of_torch_but_at_the_border():
    """torch weighs what lies inside the image alone; we mirror it."""
    x = normal(1, 1, 24, 24)
    ours = operators.bicubic((1, 24, 24), factor=4)(x)
    theirs = torch.nn.functional.interpolate(x, (6, 6), mode="bicubic", antialias=True)
    assert torch.allclose(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-12)


def test_the_fourier_prox_is_the_closed_form():
    """F x = F(Re F*(M y) + rho x0)/(w + rho), for a y that no real image has."""
    operator = operators.fourier(SMALL, share=0.5, seed=4)
    assert set(operator.values.tolist()) == {1.0, 0.5**0.5}
    y = normal(2, *operator.measured)
    x0 = normal(2, *SMALL, seed=1)
    right_side = torch.fft.fft2(operator.adjoint(y) + 0.3 * x0)
    expected = torch.fft.ifft2(right_side / (operator.share.reshape(8, 6) + 0.3)).real
    assert torch.allclose(prox(operator, x0, y, 0.3), expected, atol=1e-13)


def test_lines_are_columns_with_the_lowest_among_them():
    kept = operators.fourier((1, 8, 8), lines=5, seed=1).contents()["mask"]
    assert kept.sum() == 40 and torch.equal(kept, kept[:1].expand(8, 8))
    assert kept[0, [0, 1]].tolist() == [1, 1]
    spread = operators.fourier((1, 8, 8), share=0.25).contents()["mask"]
    assert spread.sum() == 16 and spread[0, 0] == 1


def test_phase_retrieval_is_the_modulus_and_forgets_a_shift():
    from scipy.fft import fft2

    operator = operators.phase_retrieval((1, 8, 12))
    assert operator.measured == (1, 12, 18)
    x = torch.rand(1, 1, 8, 12, dtype=f64) * 2 - 1
    padded = np.zeros((12, 18))
    padded[2:10, 3:15] = (x[0, 0].numpy() + 1) / 2
    expected = np.abs(fft2(padded, norm="ortho"))
    assert np.allclose(operator(x)[0, 0].numpy(), expected, rtol=0, atol=1e-13)
    dark = torch.full((1, 1, 8, 12), -1.0, dtype=f64)
    dark[..., 2:5, 3:7] = torch.rand(3, 4, dtype=f64)
    assert torch.allclose(operator(dark), operator(dark.roll((1, 2), (2, 3))), atol=1e-13)
    assert torch.allclose(operator(dark), operator(dark.flip(2, 3)), atol=1e-13)
    signed = operators.phase_retrieval((1, 8, 12), unit=False)
    assert torch.allclose(signed(x), signed(-x), atol=1e-13)


def test_hdr_clips_and_has_no_gradient_there():
    operator = operators.hdr((4,))
    x = torch.tensor([[-0.7, -0.2, 0.4, 0.9]], dtype=f64, requires_grad=True)
    y = operator(x)
    assert y.tolist() == [pytest.approx([-1, -0.4, 0.8, 1])]
    y.sum().backward()
    assert x.grad.tolist() == [[0, 2, 2, 0]]
    assert not isinstance(operator, Linear) and isinstance(operator, Operator)


REFUSED = {
    "sr divides": (lambda: operators.sr((1, 28, 28), factor=5), "write one of 2, 4, 7, 14, 28"),
    "two kernels": (lambda: operators.sr((1, 8, 8), std=1.0, kernel="k.npy"), "one of them"),
    "share of": (lambda: operators.fourier((1, 8, 8), share=1.5), "operator.share=1.5"),
    "lines": (lambda: operators.fourier((1, 8, 8), lines=9), "operator.lines=9"),
    "padding": (lambda: operators.phase_retrieval((1, 8, 8), oversampling=-1.0), "-1.0"),
    "gain": (lambda: operators.hdr((2,), gain=0.0), "operator.gain=0.0"),
    "box": (lambda: operators.inpaint_box((1, 8, 8), size=9), "operator.size=9"),
    "whole box": (lambda: operators.inpaint_box((1, 8, 8), size=8), "hides every pixel"),
    "box outside": (lambda: operators.inpaint_box((1, 8, 8), size=4, top=5), "operator.top=5"),
    "points": (lambda: operators.inpaint_box((2,), size=1), "is of images"),
    "share": (lambda: operators.inpaint_random((1, 8, 8), keep=0.0), "operator.keep=0.0"),
    "few": (lambda: operators.inpaint_random((1, 8, 8), keep=0.001), "hides every pixel"),
    "mask size": (lambda: operators.mask((1, 8, 8), kept=torch.ones(8, 7)), "(8, 8)"),
    "mask channels": (lambda: operators.mask((3, 8, 8), kept=torch.ones(1, 8, 8)), "all channels"),
    "mask values": (lambda: operators.mask((1, 2, 2), kept=torch.eye(2) / 2), "0 (hidden)"),
    "empty mask": (lambda: operators.mask((1, 2, 2), kept=torch.zeros(2, 2)), "hides every pixel"),
    "no mask": (lambda: operators.mask((1, 2, 2)), "operator.file=MASK.npy"),
    "std": (lambda: operators.blur((1, 8, 8), std=0.0), "operator.std=0.0"),
    "large": (lambda: operators.blur((1, 8, 8), size=9), "larger than the image"),
    "sum": (
        lambda: operators.kernel((1, 8, 8), entries=torch.tensor([[1.0, -1.0]])),
        "sums to 0",
    ),
    "nan": (
        lambda: operators.kernel((1, 8, 8), entries=torch.tensor([[1.0, float("nan")]])),
        "not finite",
    ),
    "kernel channels": (
        lambda: operators.kernel((1, 8, 8), entries=torch.ones(1, 3, 3)),
        "for all channels",
    ),
    "intensity": (lambda: operators.motion((1, 8, 8), size=5, intensity=2.0), "intensity=2.0"),
    "motion": (lambda: operators.motion((1, 8, 8)), "larger than the image"),
    "divides": (lambda: operators.pool((1, 28, 28), factor=3), "write one of 2, 4, 7, 14, 28"),
    "grey": (lambda: operators.grey((1, 28, 28)), "grey already"),
    "weights": (lambda: operators.grey((3, 8, 8), weights=[1.0]), "3 numbers"),
    "width": (lambda: operators.matrix((3,), entries=[[1, 2]]), "shape (m, 3)"),
    "ragged": (lambda: operators.matrix((2,), entries=[[1, 2], [3]]), "equal length"),
    "zero": (lambda: operators.matrix((2,), entries=[[0, 0]]), "all 0"),
    "two": (lambda: operators.matrix((2,), file="a.npy", entries=[[1, 0]]), "one matrix"),
    "no file": (lambda: operators.matrix((2,), file="nowhere.npy"), "nowhere.npy"),
    "rows": (lambda: operators.gaussian_rows((2,), rows=0), "operator.rows=0"),
    "norm": (lambda: operators.gaussian_rows((2,), rows=1, normalization="l2"), "rows or columns"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_be_is_refused_in_one_line(name):
    build, said = REFUSED[name]
    with pytest.raises(UsageError) as refusal:
        build()
    assert said in str(refusal.value) and "\n" not in str(refusal.value)


def test_files(tmp_path):
    np.save(tmp_path / "mask.npy", MASK.numpy().astype(bool))
    np.save(tmp_path / "kernel.npy", ASYMMETRIC.numpy())
    np.savetxt(tmp_path / "a.csv", np.array([[1.0, 2, 3]]), delimiter=",")
    kept = operators.mask(SMALL, file=str(tmp_path / "mask.npy"))
    assert torch.equal(kept.index, operators.mask(SMALL, kept=MASK).index)
    assert torch.equal(kept.contents()["mask"], MASK.to(torch.uint8))
    blur = operators.kernel(SMALL, file=str(tmp_path / "kernel.npy"))
    assert torch.allclose(blur.kernel, ASYMMETRIC / ASYMMETRIC.sum())
    assert operators.matrix((3,), file=str(tmp_path / "a.csv"))(torch.ones(1, 3)).item() == 6


# what has no default: it is the user's own file or list
GIVEN = {
    "mask": {"kept": MASK},
    "kernel": {"entries": ASYMMETRIC},
    "matrix": {"entries": torch.ones(1, 96, dtype=f64)},
    "inpaint_box": {"size": 3},
    "motion": {"size": 5},
    "bicubic": {"factor": 2},
    "pool": {"factor": 2},
    "sr": {"factor": 2},
}


@pytest.mark.parametrize("name", sorted(file.stem for file in conf_dir().glob("operator/*.yaml")))
def test_every_operator_that_has_a_config_measures_what_it_says(name):
    """Whoever adds one: its config is the function's own defaults, its adjoint is one, and what it
    says of its singular vectors is so."""
    config = every("operator")[name]
    options = signature(get_object(config["_target_"])).parameters
    for key, value in config.items():
        assert key.startswith("_") or options[key].default == value
    node = OmegaConf.create({"operator": config}).operator
    operator = build(node)(shape=SMALL, **GIVEN.get(name, {}))
    x = normal(3, *SMALL)
    y = normal(3, *operator.measured, seed=1)
    assert isinstance(operator, Operator) and operator(x).shape == y.shape
    if isinstance(operator, Linear):
        forward = (operator(x) * y).sum()
        assert torch.allclose(forward, (x * operator.adjoint(y)).sum(), atol=1e-11)
    if isinstance(operator, Decomposed):
        seen = operator.values * operator.right(x)
        assert torch.allclose(operator.combine(seen), operator(x), atol=1e-11)
        assert torch.allclose(operator.left(operator(x)), seen, atol=1e-11)


def test_a_config_may_not_build_an_operator_of_no_shape():
    node = OmegaConf.create({"operator": {"_target_": "diffgeo.inverse.operators.pool"}})
    with pytest.raises(UsageError, match="needs _partial_: true"):
        build(node.operator)
