"""How to train: the options of a training, and nothing that changes while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from diffgeo.errors import UsageError
from diffgeo.machine import precision
from diffgeo.training.ema import Constant
from diffgeo.training.optim import Cosine


@dataclass(frozen=True)
class Trainer:
    """How to train. steps: optimizer steps; batch: points a step, over all processes; pool: points
    that share a posterior mean as their target, a divisor of batch (1: none, see loss.pool); lr:
    Adam's peak rate; muon: the peak rate of Muon, which then takes every weight matrix that is not
    thin (0: Adam takes all); rate: the share of both rates after a fraction of the steps; warmup:
    steps of linear rise; ema: decay of the moving average of weights (0: none), or another rule of
    `ema`; clip: largest gradient norm (0: none); weight_decay: AdamW's; betas, eps: Adam's;
    precision: float32, tf32, bf16 or auto (see `precision`; all but float32 are for a GPU);
    unlabelled: the share of labels hidden from a network with classes, which classifier-free
    guidance needs (Ho and Salimans 2022); accumulate: passes that a batch is split into, for the
    memory of one; channels_last: the memory format of convolutions' weights; compile: torch.compile
    the network.

    Raises UsageError on a value out of its range.
    """

    steps: int = 4000
    batch: int = 512
    pool: int = 1
    lr: float = 2e-3
    muon: float = 0.0
    rate: Callable[[float], float] = Cosine()
    warmup: int = 100
    ema: float | Callable[[int], float] = 0.999
    clip: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    precision: str = "float32"
    unlabelled: float = 0.1
    accumulate: int = 1
    channels_last: bool = False
    compile: bool = False
    log_every: int = 100
    checkpoint_every: int = 1000

    def __post_init__(self):
        bounds = {
            "steps": (1, math.inf),
            "batch": (1, math.inf),
            "pool": (1, self.batch),
            "lr": (1e-300, math.inf),
            "muon": (0, math.inf),
            "warmup": (0, math.inf),
            "ema": (0, 1),
            "clip": (0, math.inf),
            "weight_decay": (0, math.inf),
            "eps": (0, 1),
            "unlabelled": (0, 1),
            "accumulate": (1, self.batch),
            "log_every": (1, math.inf),
            "checkpoint_every": (1, math.inf),
        }
        whole = ("steps", "batch", "pool", "warmup", "accumulate", "log_every", "checkpoint_every")
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if name == "ema" and callable(value):
                continue
            if not isinstance(value, int if name in whole else int | float):
                raise UsageError(
                    f"trainer.{name}={value} is not a {'whole ' if name in whole else ''}number"
                )
            if not low <= value <= high or value == math.inf:
                allowed = ("above 0" if low == 1e-300 else f"from {low:g}") + (
                    f" to {high:g}" if high < math.inf else ""
                )
                raise UsageError(
                    f"trainer.{name}={value:g} is out of range: write a number {allowed}"
                )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(
                f"trainer.betas={list(self.betas)} is out of range: write two numbers from 0 to "
                "below 1"
            )
        if self.batch % self.pool:
            raise UsageError(
                f"trainer.pool={self.pool} must divide trainer.batch={self.batch}: write a "
                "divisor, e.g. 128, or 1 for none"
            )
        precision.check("trainer.precision", self.precision)

    @property
    def decay(self) -> Callable[[int], float] | None:
        """The rule of the moving average; None where there is none."""
        return self.ema if callable(self.ema) else Constant(self.ema) if self.ema else None

    def share(self, step: int) -> float:
        """The share of the peak rates that step 0, 1, ... takes: a linear warm-up times `rate`."""
        return self.rate(step / self.steps) * min(1.0, (step + 1) / (self.warmup + 1))
