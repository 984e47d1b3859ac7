"""Spectra from files, names and laws, against numpy on the same points."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffgeo.core import generator
from diffgeo.data import Circle, Gaussian, Mixture, image_set, moments
from diffgeo.data.images import Images
from diffgeo.data.law import Ambient, Blurred
from diffgeo.errors import UsageError
from diffgeo.theory import spectrum as spectra


def expanded(spectrum):
    """Every eigenvalue as often as it is one, increasing."""
    return np.sort(np.repeat(spectrum.values.numpy(), spectrum.counts.numpy().astype(int)))


def pixels(n, shape=(3, 4, 5), seed=0):
    return torch.randint(0, 256, (n, *shape), generator=generator(seed), dtype=torch.uint8)


@pytest.mark.parametrize(
    "array, expected",
    [
        ([3.0, 0.0, 1.0], [0, 1, 3]),
        ([[3.0], [1.0]], [1, 3]),
        ([[2.0, 3], [0.0, 2]], [0, 0, 2, 2, 2]),
        ([[2.0, 1], [0.0, 2], [1, 1]], [0, 0, 1, 2]),
        ([[2.0, 1], [1.0, 2]], [1, 3]),
        (np.diag([4.0, 4, 0]), [0, 4, 4]),
        ([[7.0]], [7]),
    ],
)
def test_files(array, expected, tmp_path):
    np.save(tmp_path / "s.npy", np.asarray(array))
    spectrum, about = spectra.load(tmp_path / "s.npy")
    np.testing.assert_allclose(expanded(spectrum), expected, atol=1e-14)
    square = np.ndim(array) == 2 and np.shape(array)[0] == np.shape(array)[1]
    assert ("covariance" in about) == (square and np.array_equal(array, np.transpose(array)))


def test_mean_of_a_covariance_is_its_norm_in_each_eigenspace(tmp_path):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    np.save(tmp_path / "c.npy", turn @ np.diag([4.0, 4.0, 1.0]) @ turn.T)
    np.save(tmp_path / "m.npy", turn @ [3.0, 4.0, -2.0])
    spectrum, _ = spectra.load(tmp_path / "c.npy", tmp_path / "m.npy")
    total = torch.stack(
        [spectrum.mean[(spectrum.values - v).abs() < 1e-9].square().sum() for v in (4.0, 1.0)]
    )
    torch.testing.assert_close(total, torch.tensor([25.0, 4.0], dtype=torch.float64))


@pytest.mark.parametrize(
    "array, message",
    [
        ([1.0, -1.0], "0 or more; the smallest is -1"),
        ([1.0, np.nan], "holds a NaN"),
        ([1.0, np.inf], "infinite"),
        ([[1.0, 0.5], [0.2, 1.0]], "not symmetric"),
        (np.eye(3) + np.eye(3, k=1), "not symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "negative eigenvalue, -1"),
        (np.zeros((2, 3, 4)), r"shape \[2, 3, 4\]"),
        (np.zeros((3, 4)), r"shape \[3, 4\]"),
        (np.zeros(0), r"shape \[0\]"),
        ([[1.0, -2], [3, 4], [0, 1]], "counts of a spectrum must be 0 or more"),
        ([[1.0, 0], [3, 0], [0, 0]], "all 0"),
        ([1.0 + 1j], "complex"),
    ],
)
def test_bad_files(array, message, tmp_path):
    np.save(tmp_path / "s.npy", np.asarray(array))
    with pytest.raises(UsageError, match=message):
        spectra.load(tmp_path / "s.npy")


def test_bad_means_and_words(tmp_path):
    np.save(tmp_path / "s.npy", [1.0, 2.0])
    np.save(tmp_path / "m.npy", [1.0])
    (tmp_path / "x.npy").write_text("no array")
    for spectrum, mean, message in (
        ("s.npy", "m.npy", "holds 1 numbers: write 2"),
        ("x.npy", None, "cannot be read"),
        ("none.npy", None, "no such file"),
        ("words", None, "nor a spectrum by name"),
    ):
        with pytest.raises(UsageError, match=message):
            spectra.load(tmp_path / spectrum, mean and tmp_path / mean)


def test_names():
    np.testing.assert_allclose(
        expanded(spectra.power(4, 2.0, 3.0))[::-1], [3, 3 / 4, 3 / 9, 3 / 16]
    )
    assert (spectra.isotropic(7, 2.0).trace, spectra.isotropic(7).d) == (14, 7)
    for wrong in (
        lambda: spectra.power(0),
        lambda: spectra.isotropic(3, -1.0),
        lambda: spectra.power(3, float("nan")),
    ):
        with pytest.raises(UsageError):
            wrong()


@pytest.mark.parametrize("flip", [False, True])
# fewer images than numbers in one, and more than one block of exact sums
@pytest.mark.parametrize("n", [40, 1100])
def test_images_against_numpy(n, flip):
    data = Images(pixels(n), low=-1.0, high=1.0, flip=not flip)
    x = data.images.numpy().astype(float) / 127.5 - 1
    x = np.concatenate([x, x[..., ::-1]]) if flip else x
    fit = moments.fit(data, flip)
    covariance = np.cov(x.reshape(len(x), -1).T)
    np.testing.assert_allclose(fit.mean, x.mean(0).ravel(), atol=1e-14)
    np.testing.assert_allclose(fit.covariance, covariance, atol=1e-13)
    spectrum, about = spectra.of_law(data, flip=flip)
    np.testing.assert_allclose(expanded(spectrum), np.linalg.eigvalsh(covariance), atol=1e-12)
    assert spectrum.mean is None and f"{n} images" in about and ("mirror" in about) == flip
    kept, _ = spectra.of_law(data, mean=True, flip=flip)
    assert float(kept.mean.square().sum()) == pytest.approx(
        float((x.mean(0) ** 2).sum()), rel=1e-12
    )


def test_sums_of_bytes_are_exact_to_the_last_bit():
    """All bytes 1 but one: 1 024 products 127^2 stay below 2^24, and a float32 sum of twice as many
    would round."""
    data = Images(torch.ones(5 * 1024 + 1, 1, 1, 2, dtype=torch.uint8))
    data.images[0, 0, 0, 0] = 254
    covariance = moments.images(data).covariance
    assert (
        float(covariance[0, 0]) == pytest.approx(253**2 / len(data) / 127.5**2, rel=1e-9)
        and covariance[1, 1] == 0
    )


def test_eigenvalues_of_images_are_cached_by_content_and_scaled_to_any_range(monkeypatch):
    data = Images(pixels(64, seed=1))
    first = expanded(spectra.of_law(data)[0])
    monkeypatch.setattr(moments, "images", lambda *_: pytest.fail("fitted again"))
    np.testing.assert_array_equal(expanded(spectra.of_law(data)[0]), first)
    half = Images(pixels(64, seed=1), low=0.0, high=1.0, flip=True)
    np.testing.assert_allclose(expanded(spectra.of_law(half)[0]), first / 4, rtol=1e-15)
    with pytest.raises(pytest.fail.Exception):
        spectra.of_law(Images(pixels(64, seed=2)))


def test_a_blank_pixel_is_an_exact_zero():
    blank = pixels(200)
    blank[:, 1] = 7
    spectrum, _ = spectra.of_law(Images(blank))
    assert spectrum.values[-1] == 0 and spectrum.counts[-1] == 20


def test_digits_of_the_package():
    data = image_set("digits")
    x = data.images.numpy().reshape(1500, -1) / 127.5 - 1
    np.testing.assert_allclose(
        expanded(spectra.of_law(data)[0]), np.linalg.eigvalsh(np.cov(x.T)), atol=1e-12
    )


MIXTURE = Mixture(
    [[0.0, 0], [3, 1], [-1, 2]],
    [[[1.0, 0.5], [0.5, 2]], [[0.0, 0], [0, 1]], [[1.0, 0], [0, 1]]],
    [0.5, 0.3, 0.2],
)


@pytest.mark.parametrize(
    "law, word",
    [
        (Gaussian([1.0, -2.0], [[2.0, 1.0], [1.0, 1.0]]), "own covariance"),
        (MIXTURE, "mixture"),
        (Ambient(MIXTURE, 4), "mixture"),
        (
            Blurred(Ambient(Gaussian([1.0, -2.0], [[2.0, 1.0], [1.0, 1.0]]), 3), 0.7),
            "own covariance",
        ),
        (Circle(), "samples (seed 0)"),
    ],
)
def test_laws_have_their_moments(law, word):
    x = law.sample(400_000, generator(3)).double()
    fit = moments.fit(law)
    assert word in fit.about
    np.testing.assert_allclose(fit.mean, x.mean(0), atol=0.02)
    np.testing.assert_allclose(fit.covariance, np.cov(x.T.numpy()), atol=0.03)
    spectrum, _ = spectra.of_law(law)
    assert spectrum.trace == pytest.approx(float(fit.covariance.trace()), rel=1e-12)
    assert float(spectrum.mean.square().sum()) == pytest.approx(
        float(fit.mean.square().sum()), rel=1e-9
    )
    assert spectra.of_law(law, mean=False)[0].mean is None


def test_atoms_have_exact_moments():
    atoms = torch.tensor([[0.0, 0], [1, 0], [1, 3]])
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    mean = weights @ atoms.double()
    fit = moments.of_law(SimpleNamespace(atoms=atoms, weights=weights, mean=mean))
    np.testing.assert_allclose(
        fit.covariance, np.cov(atoms.T.numpy(), aweights=weights.numpy(), ddof=0), atol=1e-7
    )


def test_texture_against_its_dense_covariance():
    """X_c = t_c * w: with T_c the circulant matrix of t_c, the covariance is T T^T, T the stack of
    the T_c."""
    data = Images(pixels(3, (3, 4, 6)))
    u = data.images[2].double().numpy() / 127.5 - 1
    spots = (u - u.mean((1, 2), keepdims=True)) / np.sqrt(24)
    shifts = [np.roll(spots, (i, j), (1, 2)).ravel() for i in range(4) for j in range(6)]
    spectrum, _ = spectra.texture(data, 2)
    np.testing.assert_allclose(
        expanded(spectrum),
        np.linalg.eigvalsh(np.stack(shifts, 1) @ np.stack(shifts).conj()),
        atol=1e-6,
    )
    with pytest.raises(UsageError, match="images 0 to 2"):
        spectra.texture(data, 3)
