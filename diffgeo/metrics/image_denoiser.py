"""A learned denoiser of images against the exact ones of its training set.

At x = x0 + sigma eps the objective's minimizer is the posterior mean D* of the training set, which
at small sigma gives x0 back where x0 is a training image. Three errors tell fitting from
remembering, each a root mean square per coordinate:

    rms         x0 a training image, against D*
    rms_loo     the same x, against the posterior mean of the set without x0: what a network that cannot single out x0 is near to
    rms_test    x0 a held-out image, against D*

`neighbours` is the mean of exp(H), H the entropy of D*'s weights at the first x: as long as it is
1, D* is a look-up of one image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, Run, generator
from diffgeo.errors import UsageError
from diffgeo.metrics.features import training


@dataclass(frozen=True)
class ImageDenoiserError:
    """`denoiser/rms@s`, `denoiser/rms_loo@s`, `denoiser/rms_test@s` (where there is another split)
    and `denoiser/neighbours@s` at each level s of `sigmas`, over n images; in the units of x0. A
    denoiser that takes classes is asked with the label of x0, and held against the exact one of
    that class.

    batch: images that the learned denoiser gets at once. {} for an exact run and for laws without
        images.
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
        if run.denoise is None or run.exact or not hasattr(data, "quantize"):
            return {}
        law = training(data)
        device = run.simulation.device
        classes = getattr(run.denoise, "conditional", False)
        exact = law.denoiser()
        report = {}
        for k, sigma in enumerate(map(float, self.sigmas)):
            for part, split in (("", law), ("_test", law.other())):
                if split is None:
                    continue
                g = generator(run.seed, *b"image denoiser", k, len(part))
                index, mirrored = split.pick(self.n, g)
                x0 = split.finish(split.rows(index), mirrored)
                x = (x0 + sigma * torch.randn(x0.shape, generator=g)).to(device)
                label = (
                    split.label(index).to(device) if classes and split.labels is not None else None
                )
                learned = self._batched(run.denoise, x, sigma, label)
                truth = exact.posterior(x, sigma, label=label)
                report[f"denoiser/rms{part}@{sigma:g}"] = _rms(learned - truth.mean)
                if not part:
                    report[f"denoiser/rms_loo@{sigma:g}"] = _rms(
                        learned - exact(x, sigma, label=label, exclude=index.to(device))
                    )
                    report[f"denoiser/neighbours@{sigma:g}"] = float(truth.neighbours.mean())
        return report

    def _batched(self, denoise: Denoiser, x: Tensor, sigma: float, label: Tensor | None) -> Tensor:
        parts = x.split(self.batch)
        labels = [None] * len(parts) if label is None else label.split(self.batch)
        return torch.cat(
            [denoise(part, sigma, label=own) for part, own in zip(parts, labels, strict=True)]
        )


def _rms(error: Tensor) -> float:
    return float(error.double().square().mean().sqrt())
