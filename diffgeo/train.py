"""The training loop: fresh points of a law, one regression, Adam, a moving average.

    x0 ~ law,  sigma ~ p(sigma),  eps ~ N(0, I),     theta <- Adam(grad E w(sigma) |D_theta(x0 + sigma eps; sigma) - x0|^2)

What makes it fast in the plane, where a step is a few small matrix products: batches are drawn and prepared many at a time; all
parameters are views of one flat buffer, and so are their gradients, so that Adam, clipping and the average are single calls; the loss is
quadratic in F, 2 L = <F - F*, dL/dF>, so that autograd has one inner product to undo. Chunk c of batches is drawn from a generator keyed by
(seed, c): a resumed run needs no random state and repeats the undisturbed one to the byte.
"""
from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from diffgeo import loss
from diffgeo.core import Data, Schedule, Weighting, expand, generator
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.optim import Cosine, Muon, takes

DATA, INIT = 1, 2                       # names of the random streams of a run
POINTS = 65_536                         # points drawn at once; a multiple of what one batch needs


class Progress(NamedTuple):
    """What the loop hands out: the step reached, the mean loss since the last report, the rate."""

    step: int
    loss: float
    lr: float


class Flat:
    """A module's parameters as views of one buffer [P], and their gradients as views of another.

    Gradients accumulate into the buffer, so it is zeroed, never set to None.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        named = [(k, p) for k, p in module.named_parameters() if p.requires_grad]
        self.names, parameters = [k for k, _ in named], [p for _, p in named]
        self.values = torch.cat([p.detach().flatten() for p in parameters])
        self.grad = torch.zeros_like(self.values)
        for p, value, grad in zip(parameters, self.split(self.values, parameters), self.split(self.grad, parameters), strict=True):
            p.data, p.grad = value, grad
        self.parameters = parameters

    @staticmethod
    def split(buffer: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
        return [v.view_as(p) for v, p in zip(buffer.split([p.numel() for p in parameters]), parameters, strict=True)]

    def named(self, buffer: Tensor) -> dict[str, Tensor]:
        """The whole state of the module by name, its parameters read from `buffer` [P]."""
        return self.module.state_dict() | dict(zip(self.names, self.split(buffer, self.parameters), strict=True))


@dataclass(frozen=True)
class Trainer:
    """How to train. steps: optimizer steps; batch: points a step; pool: points that share a posterior mean as
    their target, a divisor of batch (1: none, see loss.pool); lr: Adam's peak rate; muon: the peak rate of Muon, which then takes
    every weight matrix that is not thin (0: Adam takes all); rate: the share of both rates after a fraction of the steps; warmup: steps
    of linear rise; ema: decay of the moving average of weights (0: none); clip: largest gradient norm (0: none); weight_decay:
    AdamW's; betas, eps: Adam's; precision: float32, tf32 or bf16 (the last two on a GPU).

    Raises UsageError on a value out of its range.
    """

    steps: int = 4000
    batch: int = 512
    pool: int = 1
    lr: float = 2e-3
    muon: float = 0.0
    rate: Callable[[float], float] = Cosine()
    warmup: int = 100
    ema: float = 0.999
    clip: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    precision: str = "float32"
    log_every: int = 100
    checkpoint_every: int = 1000

    def __post_init__(self):
        bounds = {"steps": (1, math.inf), "batch": (1, math.inf), "pool": (1, self.batch), "lr": (1e-300, math.inf), "muon": (0, math.inf),
                  "warmup": (0, math.inf), "ema": (0, 1), "clip": (0, math.inf), "weight_decay": (0, math.inf), "eps": (0, 1),
                  "log_every": (1, math.inf), "checkpoint_every": (1, math.inf)}
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            whole = name in ("steps", "batch", "pool", "warmup", "log_every", "checkpoint_every")
            if not isinstance(value, int if whole else int | float):
                raise UsageError(f"trainer.{name}={value} is not a {'whole ' if whole else ''}number")
            if not low <= value <= high or value == math.inf:
                allowed = ("above 0" if low == 1e-300 else f"from {low:g}") + (f" to {high:g}" if high < math.inf else "")
                raise UsageError(f"trainer.{name}={value:g} is out of range: write a number {allowed}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"trainer.betas={list(self.betas)} is out of range: write two numbers from 0 to below 1")
        if self.batch % self.pool:
            raise UsageError(f"trainer.pool={self.pool} must divide trainer.batch={self.batch}: write a divisor, e.g. 128, or 1 for none")
        if self.precision not in ("float32", "tf32", "bf16"):
            raise UsageError(f"trainer.precision={self.precision} is unknown: write float32, tf32 or bf16")

    def share(self, step: int) -> float:
        """The share of the peak rates that step 0, 1, ... takes: a linear warm-up times `rate`."""
        return self.rate(step / self.steps) * min(1.0, (step + 1) / (self.warmup + 1))


class Training:
    """A training in progress: weights, average, moments and step, which `state`/`restore` carry from one process to the next."""

    def __init__(self, trainer: Trainer, model: Network, data: Data, schedule: Schedule, weighting: Weighting, seed: int = 0):
        self.trainer, self.model, self.data, self.schedule, self.weighting, self.seed = trainer, model, data, schedule, weighting, seed
        self.flat = Flat(model)
        self.device = self.flat.values.device
        self.average = self.flat.values.clone()
        self.exp_avg, self.exp_avg_sq = torch.zeros_like(self.flat.values), torch.zeros_like(self.flat.values)      # Adam's moments
        self.updates, self.step = torch.zeros((), device=self.device), 0                                            # its count, and ours
        matrices = [p for p in self.flat.parameters if takes(p)] if trainer.muon else []
        self.muon = Muon(matrices) if matrices else None
        self.chunk = max(1, POINTS // trainer.batch)                 # batches prepared at once

    def weights(self) -> dict[str, Tensor]:
        """What to sample from, by name: the moving average when there is one."""
        return self.flat.named(self.average if self.trainer.ema else self.flat.values)

    def state(self) -> dict[str, Tensor]:
        state = {"values": self.flat.values, "average": self.average, "exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}
        return state | ({"momenta": self.muon.momenta} if self.muon else {})

    def restore(self, state: dict[str, Tensor], step: int) -> None:
        """Go on from a saved state. Raises DiffgeoError when it belongs to another network or a longer training."""
        own = self.state()
        if step > self.trainer.steps or any(name not in state or state[name].shape != v.shape for name, v in own.items()):
            raise DiffgeoError("the checkpoint belongs to another network or to a longer training; start a new run instead")
        for name, v in own.items():
            v.copy_(state[name])
        self.updates.fill_(step)
        self.step = step

    def batches(self, chunk: int) -> tuple[Tensor, ...]:
        """The prepared batches of one chunk: inputs, conditioning, targets F*, and what F - F* times gives dL/dF; [chunk, batch, ...]."""
        g = generator(self.seed, DATA, chunk, device=self.device)
        n, dtype = self.chunk * self.trainer.batch, self.flat.values.dtype
        x0 = self.data.sample(n, g)
        sigma = self.schedule.draw(n, g)
        eps = torch.randn(x0.shape, generator=g, device=self.device, dtype=x0.dtype)
        if self.trainer.pool > 1:
            x0, eps = loss.pool(x0, sigma, eps, self.trainer.pool)
        x, noise, target, weight = loss.batch(self.model.parameterization, self.weighting, x0, sigma, eps)
        slope = expand(2 * self.chunk / target.numel() * weight, target)                # L is a mean over batch and coordinates
        return tuple(v.to(dtype).view(self.chunk, self.trainer.batch, *v.shape[1:]) for v in (x, noise, target, slope))

    def precision(self):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.trainer.precision != "float32"
        bf16 = self.trainer.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()

    def update(self) -> None:
        """One step of Muon and Adam along the gradient in the buffer, and of the moving average."""
        trainer, flat, share = self.trainer, self.flat, self.trainer.share(self.step)
        if trainer.clip:
            flat.grad.mul_(torch.clamp(trainer.clip / (flat.grad.norm() + 1e-12), max=1.0))
        if self.muon:
            self.muon.step(trainer.muon * share)
        adamw([flat.values], [flat.grad], [self.exp_avg], [self.exp_avg_sq], [], [self.updates], fused=True, amsgrad=False, maximize=False,
              beta1=trainer.betas[0], beta2=trainer.betas[1], lr=trainer.lr * share, weight_decay=trainer.weight_decay, eps=trainer.eps)
        if trainer.ema:                                              # a short memory early on, so that the start is forgotten
            self.average.lerp_(flat.values, 1 - min(trainer.ema, (1 + self.step) / (10 + self.step)))

    def run(self) -> Iterator[Progress]:
        """Train to the end, reporting every `log_every` steps and at the last. Raises DiffgeoError on a loss that is not finite."""
        trainer, net = self.trainer, self.model.net
        total, counted = torch.zeros((), device=self.device), 0
        chunk, prepared = -1, []
        with self.precision():
            while self.step < trainer.steps:
                if self.step // self.chunk != chunk:
                    chunk = self.step // self.chunk
                    prepared = list(zip(*self.batches(chunk), strict=True))
                x, noise, target, slope = prepared[self.step % self.chunk]
                self.flat.grad.zero_()
                error = net(x, noise) - target
                twice = torch.dot(error.flatten(), (slope * error.detach()).flatten())      # 2 L, whose second factor is dL/dF
                twice.backward()
                total += twice.detach()
                self.update()
                counted += 1
                self.step += 1
                if self.step % trainer.log_every == 0 or self.step == trainer.steps:
                    mean = float(total) / (2 * counted)
                    if not math.isfinite(mean):
                        raise DiffgeoError(f"the loss became {mean} between steps {self.step - counted} and {self.step}: "
                                           f"lower trainer.lr (now {trainer.lr:g}), set trainer.clip=1, or check the weighting")
                    total.zero_()
                    counted = 0
                    yield Progress(self.step, mean, trainer.lr * trainer.share(self.step - 1))


class Clock:
    """CPU and wall seconds since the start, on top of what earlier processes of the same run spent."""

    def __init__(self, cpu: float = 0.0, wall: float = 0.0):
        self.cpu, self.wall = cpu - time.process_time(), wall - time.monotonic()

    def read(self) -> tuple[float, float]:
        return self.cpu + time.process_time(), self.wall + time.monotonic()
