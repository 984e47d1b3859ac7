"""The exact denoiser of a set of images that a measurement has weighed.

Of images a_i in the orientations F_g (itself; under `flip` its mirror image too)

    p(x0 | y) = sum_ig w_ig delta(F_g a_i),     w_ig ~ exp(-|y - A(F_g a_i)|^2 / 2 sigma_n^2),

and D is that of the set with log w_ig added to the logits: any operator A, one pass over the images
for the weights, the same two passes as before for D. Rows may each have weights of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.analytic import given
from diffgeo.analytic.images import ImageDenoiser
from diffgeo.analytic.measurement import Operator
from diffgeo.analytic.pixels import Pixels
from diffgeo.analytic.points import Dense

IMAGES = 4096  # whose numbers are made of their bytes at a time


def reweighted(
    pixels: Pixels,
    operator: Operator,
    y: Tensor,
    sigma_n: float,
    log_weights: Tensor | None = None,
) -> given.Reweighted:
    """The weights of the images given y [n,*M], orientation by orientation: log_weight [n,G,N],
    float64. A mirror image counts as one more. log_weights: those before y [G,N], equal if None.
    Raises UsageError where no image has a y."""
    logs = []
    for block in pixels.images.split(IMAGES):
        x0 = pixels.low + block.double() / pixels.scale
        turned = [given.log_likelihood(operator, turn(x0), y, sigma_n) for turn in pixels.turns]
        logs.append(torch.stack(turned, 1))
    whole = torch.cat(logs, 2)
    before = None if log_weights is None else log_weights.flatten()
    return given.normalized(whole.flatten(1), y, sigma_n, before).shaped(whole.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class GivenImageDenoiser(ImageDenoiser):
    """E[x0 | x, y]: an `ImageDenoiser`, all that it knows beside D included.

    base: that of the set, whose prepared images it takes.
    log_weight: float64 of sum 1, [G,N] for one y, [B,G,N] for rows with a y each; x must then have
        B rows.
    """

    base: ImageDenoiser
    log_weight: Tensor

    @classmethod
    def of(cls, base: ImageDenoiser, log_weight: Tensor) -> GivenImageDenoiser:
        """The denoiser of the images of another one, weighed."""
        return cls(
            base.images,
            base.low,
            base.high,
            flip=base.flip,
            labels=base.labels,
            class_count=base.class_count,
            base=base,
            log_weight=log_weight,
        )

    def dense(self, device: torch.device) -> Dense:
        return self.base.dense(device)

    def check_shape(self, x: Tensor) -> None:
        super().check_shape(x)
        if self.log_weight.dim() == 3:
            given.check_rows(x, self.log_weight)

    def log_prior(self, rows: Tensor, columns: Tensor | None, hidden: Tensor | None) -> Tensor:
        whole = self.log_weight.to(rows.device)
        found = whole[rows] if whole.dim() == 3 else whole.expand(len(rows), -1, -1)
        if columns is None and hidden is None:
            return found
        if columns is not None:
            found = found[..., columns]
        if hidden is not None:
            number = torch.arange(found.shape[2], device=rows.device)
            out = (number == hidden[:, None])[:, None]
            found = found.masked_fill(out, -torch.inf)
        # of the images that are left
        return found.flatten(1).log_softmax(1).clamp(min=given.NEVER).view(found.shape)
