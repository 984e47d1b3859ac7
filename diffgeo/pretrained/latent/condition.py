"""Sample i is told prompt i: a `core.Condition`.

    D = D_null + guidance (D_text - D_null)

with the negative prompt, or the empty one, in the place of null. guidance 1 is the network told the
prompt alone, one row a sample; 0 is the null network (diffusers' pipelines switch guidance off up
to 1, and are then told the prompt).

Prompts are encoded when a batch is drawn: 30 000 of 77 x 1024 numbers are 9.5 GB, a batch of 32 is
10 MB.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sampler, Sigma
from diffgeo.denoiser import Guided, Labelled
from diffgeo.errors import UsageError
from diffgeo.pretrained.latent.prompts import Prompts
from diffgeo.pretrained.latent.text import Embedded

if TYPE_CHECKING:
    from diffgeo.pretrained.latent.model import LatentNetwork

SHOWN = 5  # numbers of cut prompts


@dataclass(frozen=True, eq=False)
class Told:
    """`denoise`, where label j is row j of some encoded prompts, and -1 their last row."""

    denoise: Denoiser
    embedded: Embedded

    def __call__(self, x: Tensor, sigma: Sigma, *, label: Tensor | None = None, **cond) -> Tensor:
        if label is None:
            label = torch.full((len(x),), -1)
        told = self.embedded.rows(label.to(self.embedded.text.device))
        if told.pooled is not None:
            cond["pooled"] = told.pooled
        return self.denoise(x, sigma, text=told.text, **cond)


@dataclass(frozen=True, eq=False)
class Prompted:
    """Sample i is told prompt i.

    model: whose text encoders read them.
    guidance: the scale of classifier-free guidance.
    rescale: 0 to 1, how far a guided prediction gets the deviation of the prompt's own.
    Raises UsageError on a guidance that is no number and on a rescale outside [0, 1].
    """

    prompts: Prompts
    model: LatentNetwork
    guidance: float = 1.0
    rescale: float = 0.0

    def __post_init__(self):
        if not math.isfinite(self.guidance):
            raise UsageError(f"guidance={self.guidance}: write a finite number, such as 7.5")
        if not 0 <= self.rescale <= 1:
            raise UsageError(
                f"guidance_rescale={self.rescale}: write a number from 0, no rescaling, to 1"
            )

    def check(self, numbers: range) -> None:
        """Say which prompts of these numbers are cut. Raises UsageError where there are fewer
        prompts."""
        cut = self.model.texts.cut(self.prompts.of(numbers))
        if not cut:
            return
        named = ", ".join(str(numbers.start + i) for i in cut[:SHOWN])
        more = f" and {len(cut) - SHOWN} more" if len(cut) > SHOWN else ""
        print(
            f"{self.prompts.source}: longer than the text encoder takes, and cut: prompt "
            f"{named}{more} (counted from 0)",
            file=sys.stderr,
        )

    def words(self, numbers: range) -> tuple[str, ...]:
        """The prompts of these samples."""
        return self.prompts.of(numbers)

    def told(self, numbers: range) -> dict[str, Tensor]:
        """Nothing that is a tensor."""
        return {}

    def around(
        self, denoise: Denoiser, numbers: range, device: torch.device | str = "cpu"
    ) -> Denoiser:
        """`denoise` told the prompts of these samples, encoded here."""
        embedded = self.model.told(self.prompts.of(numbers)).on(device)
        scale = float(self.guidance)
        parameterization = self.model.parameterization
        guided = Guided(Told(denoise, embedded), scale, float(self.rescale), parameterization)
        return Labelled(guided, torch.arange(len(numbers), device=device))

    def steered(
        self, method: Sampler, numbers: range, device: torch.device | str = "cpu"
    ) -> Sampler:
        """`method`. Raises UsageError where it lets some samples go ahead of others."""
        if method.adaptive:
            raise UsageError(
                "prompts=: an adaptive sampler lets some samples go ahead of others; write "
                "another sampler, such as sampler=dpmpp_2m"
            )
        return method
