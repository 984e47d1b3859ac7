"""How to train: the options of a training, and nothing that changes while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from diffgeo.errors import UsageError
from diffgeo.machine import precision
from diffgeo.training.ema import Constant
from diffgeo.training.optim import Cosine

ABOVE_0 = 1e-300  # the lower end of what must be positive


@dataclass(frozen=True)
class Trainer:
    """How to train. Raises UsageError on a value out of its range."""

    steps: int = 4000  # of the optimizer
    batch: int = 512  # points a step, over all processes
    # points that share a posterior mean as their target, a divisor of batch (1: none; `loss.pool`)
    pool: int = 1

    lr: float = 2e-3  # Adam's peak rate
    # Muon's peak rate; it then takes every weight matrix that is not thin (0: Adam takes all)
    muon: float = 0.0
    rate: Callable[[float], float] = Cosine()  # the share of both after a fraction of the steps
    warmup: int = 100  # steps of linear rise
    ema: float | Callable[[int], float] = 0.999  # the average's decay (0: none), or a rule of `ema`
    clip: float = 0.0  # largest norm of the gradient (0: none)
    weight_decay: float = 0.0  # AdamW's
    betas: tuple[float, float] = (0.9, 0.99)  # Adam's, and so is eps
    eps: float = 1e-8

    # float32, tf32, bf16 or auto (see `machine.precision`); all but float32 are for a GPU
    precision: str = "float32"
    # the share of labels hidden from a network with classes, which classifier-free guidance needs
    # (Ho and Salimans 2022)
    unlabelled: float = 0.1
    accumulate: int = 1  # passes that a batch is split into, for the memory of one
    channels_last: bool = False  # the memory format of convolutions' weights
    compile: bool = False  # torch.compile the network

    log_every: int = 100  # steps
    checkpoint_every: int = 1000

    def __post_init__(self):
        whole("steps", self.steps, 1)
        whole("batch", self.batch, 1)
        whole("pool", self.pool, 1, self.batch)
        number("lr", self.lr, ABOVE_0)
        number("muon", self.muon, 0)
        whole("warmup", self.warmup, 0)
        if not callable(self.ema):
            number("ema", self.ema, 0, 1)
        number("clip", self.clip, 0)
        number("weight_decay", self.weight_decay, 0)
        number("eps", self.eps, 0, 1)
        number("unlabelled", self.unlabelled, 0, 1)
        whole("accumulate", self.accumulate, 1, self.batch)
        whole("log_every", self.log_every, 1)
        whole("checkpoint_every", self.checkpoint_every, 1)
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
        if callable(self.ema):
            return self.ema
        return Constant(self.ema) if self.ema else None

    def share(self, step: int) -> float:
        """The share of the peak rates that step 0, 1, ... takes: a linear warm-up times `rate`."""
        risen = min(1.0, (step + 1) / (self.warmup + 1))
        return self.rate(step / self.steps) * risen


def whole(name: str, value: object, low: float, high: float = math.inf) -> None:
    """Raise UsageError unless trainer.`name` is a whole number in [low, high]."""
    if not isinstance(value, int):
        raise UsageError(f"trainer.{name}={value} is not a whole number")
    within(name, value, low, high)


def number(name: str, value: object, low: float, high: float = math.inf) -> None:
    """Raise UsageError unless trainer.`name` is a finite number in [low, high]."""
    if not isinstance(value, int | float):
        raise UsageError(f"trainer.{name}={value} is not a number")
    within(name, value, low, high)


def within(name: str, value: float, low: float, high: float) -> None:
    if low <= value <= high and value < math.inf:
        return
    allowed = "above 0" if low == ABOVE_0 else f"from {low:g}"
    if high < math.inf:
        allowed += f" to {high:g}"
    raise UsageError(f"trainer.{name}={value:g} is out of range: write a number {allowed}")
