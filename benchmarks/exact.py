"""Exact denoisers: CPU seconds a call, against plain references and the arithmetic itself."""

from __future__ import annotations

import math

import torch

from benchmarks.measure import Row, interleaved, peer
from diffgeo.analytic.images import ImageDenoiser
from diffgeo.data import Cloud, Curve


def plain(x: torch.Tensor, sigma: float, points: torch.Tensor) -> torch.Tensor:
    """sum_i softmax(-|x - x_i|^2 / 2 sigma^2) x_i, as one would write it, in the dtype of x."""
    return torch.softmax(-(torch.cdist(x, points) ** 2) / (2 * sigma**2), 1) @ points


def ideal(points: torch.Tensor):
    """smalldiffusion's denoiser of these points, or None where it is not installed."""
    if (package := peer("smalldiffusion")) is None:
        return None
    # its __init__ stacks the points one by one
    made = package.IdealDenoiser.__new__(package.IdealDenoiser)
    torch.nn.Module.__init__(made)
    made.data = points
    return made


def norms(x: torch.Tensor, sigma: float, points: torch.Tensor) -> torch.Tensor:
    """smalldiffusion's formula, for where it is not installed: |x|^2 - 2 x.a + |a|^2 in float32,
    norms taken at each call."""
    square = x.square().sum(1)[:, None] - 2 * (x @ points.mT) + points.square().sum(1)
    return torch.softmax(-square / (2 * sigma**2), 1) @ points


def empirical(n: int, size: int, rounds: int, smalldiffusion_bar: float) -> list[Row]:
    """The denoiser of n float32 points in R^size, batch 64; ours keeps its logits in float64 in the
    plane."""
    points = torch.randn(n, size)
    x = 1.5 * torch.randn(64, size)
    sigma = 0.5
    double = points.double()
    denoise = Cloud(points=points).denoiser()
    variants = {
        "ours": lambda: denoise(x, sigma),
        "plain float32": lambda: plain(x, sigma, points),
        "two GEMMs float32": lambda: (x @ points.mT) @ points,
        "two GEMMs float64": lambda: (x.double() @ double.mT) @ double,
    }
    if package := ideal(points):
        level = torch.tensor(sigma)
        variants["smalldiffusion"] = lambda: package(x, level)
    seconds = interleaved(variants, rounds)
    what = f"exact empirical denoiser, {n} x {size}, batch 64"
    limit = 1.1 if size > 100 else math.nan  # at d = 2 the softmax is the work
    bars = {
        "two GEMMs float32": limit,
        "two GEMMs float64": math.nan,
        "plain float32": math.nan,
        "smalldiffusion": smalldiffusion_bar,
    }
    return against(what, seconds, bars)


def images(batch: int, sigma: float, rounds: int) -> list[Row]:
    """50 000 colour images of 32 x 32, kept as bytes; the others read float32 copies. At sigma = 20
    every image weighs something."""
    g = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(
        torch.rand(50_000, 3, 4, 4, generator=g), scale_factor=8
    )
    pixels = (255 * smooth).to(torch.uint8)
    x = pixels[:batch].float() / 127.5 - 1 + sigma * torch.randn(batch, 3, 32, 32, generator=g)
    points = (smooth.flatten(1) * 2).sub_(1)
    flat = x.flatten(1)
    denoise = ImageDenoiser(pixels)
    variants = {
        "ours": lambda: denoise(x, sigma),
        "two GEMMs float32": lambda: (flat @ points.mT) @ points,
        "smalldiffusion's formula": lambda: norms(flat, sigma, points),
    }
    if package := ideal(points):
        level = torch.tensor(sigma)
        variants["smalldiffusion"] = lambda: package(flat, level)
    seconds = interleaved(variants, rounds)
    what = f"exact denoiser of 50 000 images 3 x 32 x 32, batch {batch}, sigma {sigma:g}"
    bars = {
        "two GEMMs float32": 1.1,
        "smalldiffusion's formula": math.nan,
        "smalldiffusion": math.nan,
    }
    return against(what, seconds, bars)


def against(what: str, seconds: dict[str, float], bars: dict[str, float]) -> list[Row]:
    """Our seconds against each of `bars`, whose ratios they bound."""
    ours = seconds["ours"]
    return [
        Row(what, "CPU s", ours, seconds.get(name, math.nan), bar, name)
        for name, bar in bars.items()
    ]


def rows() -> list[Row]:
    torch.manual_seed(0)
    out = empirical(1_000_000, 2, 3, 0.1) + empirical(50_000, 3072, 3, math.nan)
    out += images(64, 0.5, 3) + images(64, 20.0, 3) + images(256, 20.0, 3)
    denoise = Curve().denoiser()
    for sigma in (0.01, 0.1, 1.0, 10.0):
        x = Curve().sample(10_000, torch.Generator().manual_seed(0))
        x = x + sigma * torch.randn(x.shape, dtype=torch.float64)
        seconds = interleaved({"ours": lambda x=x, sigma=sigma: denoise(x, sigma)}, rounds=2)
        what = f"exact curve denoiser, 10 000 points, sigma {sigma:g}"
        out.append(Row(what, "CPU s", seconds["ours"], math.nan))
    return out
