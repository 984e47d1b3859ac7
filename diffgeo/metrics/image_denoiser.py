"""A learned denoiser of images against the exact ones of its training set.

At x = x0 + sigma eps the objective's minimizer is the posterior mean D* of the training set, which
at small sigma gives x0 back where x0 is a training image. Three errors tell fitting from
remembering, each a root mean square per coordinate:

    rms         x0 a training image, against D*
    rms_loo     the same x, against the posterior mean of the set without x0: what a network that
                cannot single out x0 is near to
    rms_test    x0 a held-out image, against D*

`neighbours` is the mean of exp(H), H the entropy of D*'s weights at the first x: as long as it is
1, D* is a look-up of one image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.core import Data, Denoiser, ImageSet, Run, generator
from diffgeo.errors import UsageError
from diffgeo.metrics.base import Measure
from diffgeo.metrics.features import training


@runtime_checkable
class Conditional(Protocol):
    """A denoiser that says whether it takes a class, `label`."""

    conditional: bool


def takes_classes(denoise: Denoiser) -> bool:
    return isinstance(denoise, Conditional) and denoise.conditional


def rms(error: Tensor) -> float:
    """Root mean square of a coordinate."""
    return float(error.double().square().mean().sqrt())


@dataclass(frozen=True)
class Noisy:
    """Images of a set at one level of noise."""

    index: Tensor  # their rows in the set, [n]
    x: Tensor  # [n,C,H,W]
    label: Tensor | None  # [n]


def noisy(
    law: ImageSet,
    n: int,
    sigma: float,
    generator: torch.Generator,
    device: torch.device | str,
    labelled: bool,
) -> Noisy:
    """n images of the law at the level sigma, and their classes where `labelled` and it has any."""
    index, mirrored = law.pick(n, generator)
    x0 = law.finish(law.rows(index), mirrored)
    x = x0 + sigma * torch.randn(x0.shape, generator=generator)
    label = None
    if labelled and law.labels is not None:
        label = law.label(index).to(device)
    return Noisy(index.to(device), x.to(device), label)


@dataclass(frozen=True)
class ImageDenoiserError(Measure):
    """`denoiser/rms@s`, `denoiser/rms_loo@s`, `denoiser/rms_test@s` (where there is another split)
    and `denoiser/neighbours@s` at each level s of `sigmas`, over n images; in the units of x0. A
    denoiser that takes classes is asked with the label of x0, and held against the exact one of
    that class.

    batch: images that the learned denoiser gets at once.

    {} for an exact run and for laws without images.
    """

    n: int = 100
    sigmas: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
    batch: int = 100

    floors = False  # of a denoiser, not of a cloud

    def __post_init__(self):
        if self.n < 1 or self.batch < 1 or not all(s > 0 for s in self.sigmas):
            raise UsageError(
                f"metrics.denoiser.n={self.n} batch={self.batch} sigmas={list(self.sigmas)}: "
                "give n and batch of 1 or more, and levels above 0"
            )

    @torch.no_grad()
    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        if run.simulation is None or run.exact or not isinstance(data, ImageSet):
            return {}
        denoise = run.simulation.denoise
        law = training(data)
        held_out = law.other()
        exact = law.denoiser()
        device = run.simulation.device
        labelled = takes_classes(denoise)
        report = {}
        for k, sigma in enumerate(map(float, self.sigmas)):
            g = self.draws(run, k, "")
            seen = noisy(law, self.n, sigma, g, device, labelled)
            learned = self.batched(denoise, seen, sigma)
            truth = exact.posterior(seen.x, sigma, label=seen.label)
            without = exact(seen.x, sigma, label=seen.label, exclude=seen.index)
            report[f"denoiser/rms@{sigma:g}"] = rms(learned - truth.mean)
            report[f"denoiser/rms_loo@{sigma:g}"] = rms(learned - without)
            report[f"denoiser/neighbours@{sigma:g}"] = float(truth.neighbours.mean())
            if held_out is not None:
                g = self.draws(run, k, "_test")
                other = noisy(held_out, self.n, sigma, g, device, labelled)
                learned = self.batched(denoise, other, sigma)
                truth = exact.posterior(other.x, sigma, label=other.label)
                report[f"denoiser/rms_test@{sigma:g}"] = rms(learned - truth.mean)
        return report

    def draws(self, run: Run, level: int, part: str) -> torch.Generator:
        """What the images and the noise of a level are drawn from."""
        return generator(run.seed, *b"image denoiser", level, len(part))

    def batched(self, denoise: Denoiser, images: Noisy, sigma: float) -> Tensor:
        """D of the images, `batch` at a time."""
        parts = images.x.split(self.batch)
        if images.label is None:
            return torch.cat([denoise(part, sigma, label=None) for part in parts])
        labels = images.label.split(self.batch)
        pairs = zip(parts, labels, strict=True)
        return torch.cat([denoise(part, sigma, label=own) for part, own in pairs])
