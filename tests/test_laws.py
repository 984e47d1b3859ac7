"""Laws as laws: samples against their own quantiles and moments, projections, wrappers, and the
identities every E[x0|x] satisfies."""

import math
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy import stats

from diffgeo import data
from diffgeo.core import ImageSet, Known, Manifold, Streamed
from diffgeo.data import Ambient, Blurred, make
from diffgeo.errors import UsageError

CONF = Path(__file__).parents[1] / "conf" / "data"
NAMES = sorted(p.stem for p in CONF.glob("*.yaml") if "diffgeo.data.make" in p.read_text())
CURVES = ["circle", "curve", "line", "moons", "parabola", "segment", "spiral", "swissroll", "tree"]


def law(name: str, tmp_path: Path | None = None, **options):
    cfg = OmegaConf.load(CONF / f"{name}.yaml")
    if name in ("cloud", "npy"):  # of other points: the same ones are the same law
        points = np.random.default_rng(name == "npy").normal(size=(300, 2)) * [1, 0.3]
        np.save(tmp_path / "cloud.npy", points)
        cfg.file = str(tmp_path / "cloud.npy")
    return hydra.utils.instantiate(OmegaConf.merge(cfg, options))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_law_of_the_issue_has_a_config():
    wanted = (
        "line curve points2 points4 points5 points8 points5_line normal gaussian mixture segment "
        "circle sphere swissroll spiral "
        "moons parabola square tree cloud"
    )
    assert set(wanted.split()) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_law_has_what_the_protocols_say(name, tmp_path):
    """All of a manifold, and of everything else None or 0; a set of images is no law of these."""
    one = law(name, tmp_path)
    assert isinstance(one, Known) and isinstance(one, Manifold)
    assert not isinstance(one, Streamed) and not isinstance(one, ImageSet)
    assert one.classes == 0
    assert (one.coordinate is None) == (one.quantile is None)
    assert (one.atoms is None) == (one.weights is None)
    assert one.period is None or one.coordinate is not None


@pytest.mark.parametrize("name", NAMES)
def test_moments_of_samples(name, tmp_path):
    """Mean and std of 200 000 samples within 5 standard errors of the law's own."""
    one = law(name, tmp_path)
    x = one.sample(200_000, generator())
    assert x.dtype == torch.float64 and x.shape[1:] == one.shape
    square = (x - one.mean).square().mean(1)
    assert ((x.mean(0) - one.mean).abs() <= 5 * x.std(0) / len(x) ** 0.5 + 1e-12).all()
    assert abs(float(square.mean()) - one.std**2) <= 5 * float(square.std()) / len(x) ** 0.5 + 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_samples_lie_on_the_support(name, tmp_path):
    one = law(name, tmp_path)
    x = one.sample(500, generator())
    far = x + torch.randn(x.shape, generator=generator(1), dtype=torch.float64)
    p = one.project(far)
    assert one.distance(x).max() < 1e-13 * (1 + x.abs().max())
    assert torch.allclose(one.project(p), p, atol=1e-12)
    # none nearer among true points
    assert (
        one.distance(far) <= torch.cdist(far, one.sample(5000, generator(2))).amin(1) + 1e-12
    ).all()
    basis = one.tangent(p)
    assert basis.shape == (500, one.shape[0], one.dim)
    assert (
        torch.allclose(
            basis.mT @ basis,
            torch.eye(one.dim, dtype=torch.float64).expand(500, -1, -1),
            atol=1e-12,
        )
        or name == "mixture"
    )


def test_tangents_of_the_sphere_at_both_poles():
    """p = -+e_1, where one of the two Householder reflections is 0/0."""
    p = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [-1.0, 1e-9, 0]], dtype=torch.float64)
    e = data.Sphere().tangent(p)
    assert torch.allclose(e.mT @ e, torch.eye(2, dtype=torch.float64).expand(3, 2, 2), atol=1e-14)
    assert (p[:, None] @ e).abs().max() < 1e-14


@pytest.mark.parametrize("name", CURVES)
def test_samples_follow_the_quantile(name):
    """Kolmogorov-Smirnov of coordinate(sample) against quantile, and coordinate(quantile point) =
    quantile."""
    one = law(name)
    s = one.coordinate(one.sample(20_000, generator(4))).sort().values
    u = (torch.arange(len(s), dtype=torch.float64) + 0.5) / len(s)
    grid = one.quantile(torch.linspace(0, 1, 4001, dtype=torch.float64)[1:-1])
    assert (grid[1:] > grid[:-1]).all()
    cdf = np.interp(s.numpy(), grid.numpy(), np.linspace(0, 1, 4001)[1:-1])
    assert np.abs(cdf - u.numpy()).max() < 1.95 / len(s) ** 0.5  # p = .001
    assert stats.kstest(cdf, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", CURVES)
def test_coordinate_is_arc_length(name):
    """Neighbouring points of the support: |p - q| = |s(p) - s(q)| to second order, and the tangent
    is (p - q)/|p - q|."""
    one = law(name)
    p = one.sample(300, generator(5))
    e = one.tangent(p)[:, :, 0]
    q = one.project(p + 1e-5 * e)
    step = (q - p).norm(dim=1)
    ds = one.coordinate(q) - one.coordinate(p)
    if one.period:
        ds = (ds + one.period / 2).remainder(one.period) - one.period / 2
    inner = step > 0.9e-5  # not at an end or a joint
    assert inner.float().mean() > 0.98 and ((ds.abs() / step - 1).abs()[inner] < 1e-6).all()
    cosine = ((q - p) * e).sum(1) / step
    assert (cosine[inner] > 1 - 1e-6).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_posterior_identities(name, sigma, tmp_path):
    """E[D] = E[x0]; E<x0 - D, h(x)> = 0 for h = D and h = x; E|x0 - D|^2 = sigma^2 E[div D] (Cov =
    sigma^2 dD/dx)."""
    one = law(name, tmp_path)
    n = 4000
    x0 = one.sample(n, generator(6))
    x = x0 + sigma * torch.randn(x0.shape, generator=generator(7), dtype=torch.float64)
    denoise = one.denoiser()
    d = denoise(x, sigma)

    def centred(values):
        return abs(float(values.mean())) <= 4.5 * float(values.std()) / n**0.5 + 1e-12

    assert all(centred(column) for column in (d - one.mean).T)
    assert centred(((x0 - d) * d).sum(1)) and centred(((x0 - d) * x).sum(1))
    h = 1e-4 * sigma
    trace = torch.zeros(n, dtype=torch.float64)
    for i, e in enumerate(torch.eye(x.shape[1], dtype=torch.float64)):
        trace += (denoise(x + h * e, sigma) - denoise(x - h * e, sigma))[:, i] / (2 * h)
    assert centred((x0 - d).square().sum(1) - sigma**2 * trace)


@pytest.mark.parametrize("name", ["points2", "segment", "circle", "curve"])
def test_blur_against_the_convolved_law(name):
    """The blurred law as a mixture of Gaussians N(p_i, s^2 I), p_i at 600 Gauss-Legendre nodes of
    the parameter: brute force."""
    s = 0.3
    one = law(name, blur=0.3)
    base = one.law
    nodes, mass = (torch.as_tensor(v) for v in np.polynomial.legendre.leggauss(600))
    q = (1 + nodes) / 2
    centres, mass = {
        "points2": lambda: (base.atoms, base.weights),
        "segment": lambda: (base.point(base.quantile(q)), mass),
        "circle": lambda: (
            torch.stack([torch.cos(2 * math.pi * q), torch.sin(2 * math.pi * q)], 1),
            mass,
        ),
        "curve": lambda: (
            torch.stack(
                [(1 + 12 * q) * torch.cos(1 + 12 * q), (1 + 12 * q) * torch.sin(1 + 12 * q)], 1
            ),
            mass,
        ),
    }[name]()
    x = one.sample(50, generator(8)) + torch.randn(
        50, 2, generator=generator(9), dtype=torch.float64
    )
    for sigma in (0.05, 0.4, 3.0):
        total = s**2 + sigma**2
        weight = (mass.log() - (x[:, None] - centres).square().sum(-1) / (2 * total)).softmax(1)
        expected = torch.einsum(
            "bk,bkd->bd", weight, centres + s**2 / total * (x[:, None] - centres)
        )
        assert (one.denoiser()(x, sigma) - expected).abs().max() / sigma < 1e-9, sigma


@pytest.mark.parametrize("name", ["circle", "curve", "points5", "line", "tree"])
def test_ambient_is_an_isometry(name):
    plain = law(name)
    one = law(name, ambient=7)
    p = plain.sample(200, generator(10))
    y = one.sample(200, generator(10))
    assert one.shape == (7,) and one.dim == plain.dim
    assert torch.allclose((p[1:] - p[:-1]).norm(dim=1), (y[1:] - y[:-1]).norm(dim=1), atol=1e-13)
    assert torch.allclose(one.lower(y), p, atol=1e-13)
    normal = torch.randn(200, 7, generator=generator(11), dtype=torch.float64)
    normal -= one.lift(one.lower(normal))  # off the plane: tells nothing about x0
    x = y + 0.1 * torch.randn(200, 7, generator=generator(12), dtype=torch.float64)
    assert torch.allclose(
        one.denoiser()(x + 5 * normal, 0.2),
        one.lift(plain.denoiser()(one.lower(x), 0.2)),
        atol=1e-12,
    )
    assert torch.allclose(one.distance(y + normal), normal.norm(dim=1), atol=1e-12)
    if plain.coordinate is not None:
        assert torch.allclose(one.coordinate(y), plain.coordinate(p), atol=1e-9)
    assert torch.equal(one.frame, law(name, ambient=7).frame)  # a fixed frame


def test_wrappers_compose_and_refuse():
    both = law("circle", ambient=5, blur=0.1)
    assert (
        isinstance(both, Blurred)
        and isinstance(both.law, Ambient)
        and both.dim == 5
        and both.std == pytest.approx((0.2 + 0.01) ** 0.5)
    )
    for bad in ({"ambient": 1}, {"blur": -0.5}, {"blur": math.nan}):
        with pytest.raises(UsageError):
            make(data.Circle, **bad)
    for refused in (
        lambda: data.Circle(-1.0),
        lambda: data.Segment((0, 0), (0, 0)),
        lambda: data.Tree(0),
        lambda: data.Curve(5.0, 1.0),
        lambda: data.Points([[0, 0], [1, 1]], [1, -1]),
        lambda: data.Cloud(),
        lambda: data.Spiral(arms=0),
    ):
        with pytest.raises(UsageError):
            refused()


def test_options_reach_the_law():
    assert law("circle", radius=2.0).period == pytest.approx(4 * math.pi)
    assert law("sphere", n=6, radius=0.5).distance(
        torch.zeros(1, 6, dtype=torch.float64)
    ) == pytest.approx(0.5)
    assert law("gaussian", mean=[1, 2, 3], covariance=[[1, 0, 0], [0, 0, 0], [0, 0, 2]]).dim == 2
    assert law("curve", first=2.0).arc.first == 2.0


def test_keys_name_the_law_and_its_parameters(tmp_path):
    keys = {}
    for name in NAMES:
        for options in ({}, {"ambient": 9}, {"ambient": 9, "blur": 0.1}):
            key = law(name, tmp_path, **options).key
            assert len(key) < 80
            assert key not in keys, (name, options, keys[key])
            keys[key] = name, options
    assert law("circle", blur=0.1).key == law("circle", blur=0.1).key != law("circle", blur=0.2).key
    assert law("circle", radius=2.0).key != law("circle").key == data.Circle(1.0).key
    assert law("gaussian", covariance=[[1, 0], [0, 2]]).key != law("gaussian").key
