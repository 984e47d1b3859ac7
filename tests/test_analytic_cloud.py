"""The denoiser of a data set, by both kernels, against the whole softmax in float64; errors in
units of sigma."""

import pytest
import torch

from diffgeo.analytic import points as point_sets
from diffgeo.data import Cloud
from diffgeo.denoiser import covariance


def whole_softmax(points, x, sigma):
    """Row by row in float64, counted from x: differences only."""
    rows = [points.double() - row for row in x]
    return torch.stack(
        [
            row + (-step.square().sum(1) / (2 * s**2)).softmax(0) @ step
            for row, step, s in zip(x, rows, sigma, strict=True)
        ]
    )


@pytest.mark.parametrize("shift", [0.0, 10.0])
def test_float32_cloud_in_the_plane(shift):
    points = (
        torch.randn(20_000, 2, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
        + shift
    ).float()
    sigma = torch.logspace(-3, 2, 40, dtype=torch.float64)
    x = points[:40].double() + sigma[:, None] * torch.randn(
        40, 2, generator=torch.Generator().manual_seed(9), dtype=torch.float64
    )
    error = (
        Cloud(points=points).denoiser()(x, sigma) - whole_softmax(points, x, sigma)
    ).abs().amax(1) / sigma
    assert error.max() < 2e-4  # the sums are float32: 6e-8 |a| / sigma at sigma = 1e-3


def wide_sheet(n: int) -> torch.Tensor:
    """A dense sheet in R^64, coordinates of unit size: many atoms compete at every sigma."""
    g = torch.Generator().manual_seed(1)
    plane = torch.linalg.qr(torch.randn(64, 2, generator=g, dtype=torch.float64)).Q
    return 8 * torch.randn(n, 2, generator=g, dtype=torch.float64) @ plane.mT


@pytest.mark.parametrize("shift", [0.0, 10.0])
@pytest.mark.parametrize("dtype, bar", [(torch.float32, 1e-3), (torch.float64, 1e-9)])
def test_wide_cloud(dtype, bar, shift):
    """rms error / sigma of the two products, sigma from 1e-3 to 100, several in a batch, data off
    the origin too."""
    points = (wide_sheet(4000) + shift).to(dtype)
    sigma = torch.logspace(-3, 2, 60, dtype=torch.float64)[
        torch.randperm(60, generator=torch.Generator().manual_seed(2))
    ]
    x = points[:60].double() + sigma[:, None] * torch.randn(
        60, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    law = Cloud(points=points)
    error = (law.denoiser()(x, sigma) - whole_softmax(law.points, x, sigma)).square().mean(
        1
    ).sqrt() / sigma
    assert law.points.dtype == dtype and error.max() < bar


def test_wide_float32_ties_are_decided_in_float64():
    """Two atoms a unit apart, x off their bisector by sigma^2/2: logits 1/2 apart, which float32
    knows to 1e-4/sigma^2."""
    points = torch.randn(200, 64, generator=torch.Generator().manual_seed(4)) * 3
    points[1] = points[0]
    points[1, 0] += 1
    middle = points[:2].double().mean(0)
    for sigma in (1e-3, 1e-2, 0.1):
        x = (middle + torch.eye(64, dtype=torch.float64)[0] * sigma**2 / 2)[None]
        weight = torch.sigmoid(torch.tensor(0.5, dtype=torch.float64))
        truth = points[0].double() + weight * (points[1] - points[0]).double()
        assert (Cloud(points=points).denoiser()(x, sigma) - truth).abs().max() < 1e-5


def test_cloud_in_several_parts_is_the_cloud(monkeypatch):
    """Blocks of 7 atoms and 5 rows, one row of logits at a time: the same to rounding."""
    g = torch.Generator().manual_seed(5)
    for d in (2, 40):
        points = torch.randn(300, d, generator=g, dtype=torch.float64)
        x = torch.randn(23, d, generator=g, dtype=torch.float64)
        sigma = torch.logspace(-2, 1, 23, dtype=torch.float64)
        before = Cloud(points=points).denoiser()(x, sigma)
        with monkeypatch.context() as patch:
            for name, value in {"ROWS": 5, "BLOCK": 7, "LOGITS": 300 * 8}.items():
                patch.setattr(point_sets, name, value)
            assert torch.allclose(
                Cloud(points=points).denoiser()(x, sigma), before, rtol=0, atol=1e-12
            )
        assert torch.allclose(before, whole_softmax(points, x, sigma), rtol=0, atol=1e-11)


def test_float32_cloud_is_the_same_law():
    points = torch.randn(50, 20, generator=torch.Generator().manual_seed(6))
    narrow = Cloud(points=points)
    wide = Cloud(points=points.double())
    assert (
        narrow.points.data_ptr() == points.data_ptr()
        and narrow.key == wide.key
        and narrow.std == pytest.approx(wide.std, rel=1e-14)
    )
    assert torch.equal(
        narrow.sample(9, torch.Generator().manual_seed(0)),
        wide.sample(9, torch.Generator().manual_seed(0)),
    )
    assert torch.allclose(narrow.mean, points.double().mean(0), rtol=0, atol=1e-15)


def test_cloud_differentiates():
    """Cov[x0|x] = sigma^2 dD/dx against the weights' own covariance, by both kernels."""
    for d in (2, 20):
        g = torch.Generator().manual_seed(7)
        points = torch.randn(60, d, generator=g, dtype=torch.float64)
        x = torch.randn(4, d, generator=g, dtype=torch.float64)
        weight = (-(torch.cdist(x, points) ** 2) / (2 * 1.5**2)).softmax(1)
        centred = points - (weight @ points)[:, None]
        truth = torch.einsum("bn,bni,bnj->bij", weight, centred, centred)
        assert torch.allclose(
            covariance(Cloud(points=points).denoiser(), x, 1.5), truth, atol=1e-10
        )
