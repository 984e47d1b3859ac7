"""The training loop: fresh points of a law, one regression, Adam, a moving average.

    x0, label ~ law,  sigma ~ p(sigma),  eps ~ N(0, I),   theta <- Adam(grad E w(sigma) |D_theta(x0 + sigma eps; sigma, label) - x0|^2)

What makes it fast in the plane, where a step is a few small matrix products: batches are drawn and
prepared many at a time (a batch of images is a chunk of its own); all parameters are views of one
flat buffer, and so are their gradients, so that Adam, clipping, the average and the sum over
processes are single calls; the loss is quadratic in F, 2 L = <F - F*, dL/dF>, so that autograd has
one inner product to undo. Chunk c of batches is drawn from a generator keyed by (seed, c), and
dropout by one keyed by (seed, step, rank): a resumed run needs no random state and repeats the
undisturbed one, on a CPU to the byte (`precision` says what a GPU promises). Nothing waits for the
device between two reports, where the law lies on the device; one in memory or on disk (data.hold)
is sent there batch by batch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from diffgeo.core import Data, Schedule, Weighting, expand, generator
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine.distributed import ALONE, World
from diffgeo.machine.precision import autocast, resolved, running
from diffgeo.training import loss
from diffgeo.training.optim import Muon, takes
from diffgeo.training.trainer import Trainer

__all__ = ["DATA", "INIT", "Flat", "Progress", "Training"]

# names of the random streams of a run
DATA = 1
INIT = 2
DROPOUT = 3
NUMBERS = 131_072  # coordinates drawn at once: a chunk of batches


class Progress(NamedTuple):
    """What the loop hands out: the step reached, the mean loss since the last report, the rate."""

    step: int
    loss: float
    lr: float


class Flat:
    """A module's parameters as views of one buffer [P], and their gradients as views of another.

    Gradients accumulate into the buffer, so it is zeroed, never set to None. channels_last: the
    weights of convolutions [O,I,h,w] lie in the buffer as [O,h,w,I].
    """

    def __init__(self, module: nn.Module, channels_last: bool = False):
        self.module = module
        self.channels_last = channels_last
        named = [(k, p) for k, p in module.named_parameters() if p.requires_grad]
        self.names = [k for k, _ in named]
        self.parameters = [p for _, p in named]
        self.values = torch.cat([self.laid(p.detach()).flatten() for p in self.parameters])
        self.grad = torch.zeros_like(self.values)
        for p, value, grad in zip(
            self.parameters, self.split(self.values), self.split(self.grad), strict=True
        ):
            p.data = value
            p.grad = grad

    def laid(self, p: Tensor) -> Tensor:
        """A parameter with its dimensions in the order of the buffer."""
        return p.movedim(1, -1) if self.channels_last and p.dim() == 4 else p

    def split(self, buffer: Tensor) -> list[Tensor]:
        pieces = zip(
            buffer.split([p.numel() for p in self.parameters]), self.parameters, strict=True
        )
        return [
            v.view(self.laid(p).shape).movedim(-1, 1) if self.laid(p) is not p else v.view_as(p)
            for v, p in pieces
        ]

    def named(self, buffer: Tensor) -> dict[str, Tensor]:
        """The whole state of the module by name, its parameters read from `buffer` [P]."""
        return self.module.state_dict() | dict(zip(self.names, self.split(buffer), strict=True))


class Training:
    """A training in progress: weights, average, moments and step, which `state`/`restore` carry
    from one process to the next.

    Raises UsageError where the trainer, the network and the law do not fit each other.
    """

    def __init__(
        self,
        trainer: Trainer,
        model: Network,
        data: Data,
        schedule: Schedule,
        weighting: Weighting,
        seed: int = 0,
        world: World = ALONE,
    ):
        self.trainer = trainer
        self.model = model
        self.data = data
        self.schedule = schedule
        self.weighting = weighting
        self.seed = seed
        self.world = world
        self.classes = check(trainer, model, data, world)
        self.decay = trainer.decay
        self.flat = Flat(model, trainer.channels_last)
        for values in (self.flat.values, *model.buffers()):
            world.copy_(values)
        self.device = self.flat.values.device
        self.average = self.flat.values.clone()
        # Adam's moments
        self.exp_avg = torch.zeros_like(self.flat.values)
        self.exp_avg_sq = torch.zeros_like(self.flat.values)
        # its count, and ours
        self.updates = torch.zeros((), device=self.device)
        self.step = 0
        matrices = [p for p in self.flat.parameters if takes(p)] if trainer.muon else []
        self.muon = Muon(matrices) if matrices else None
        self.precision = resolved(trainer.precision, self.device, "bf16")
        self.net = torch.compile(model.net) if trainer.compile else model.net
        self.random = any(
            m.p > 0 for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)
        )
        # batches prepared at once
        self.chunk = max(1, NUMBERS // (trainer.batch * math.prod(data.shape)))
        self.streamed: Iterator | None = None

    def weights(self) -> dict[str, Tensor]:
        """What to sample from, by name: the moving average when there is one."""
        return self.flat.named(self.average if self.decay else self.flat.values)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[Network]:
        """The model as it would be sampled now, in evaluation mode; afterwards it is what it was,
        to the bit."""
        held = self.flat.values.clone()
        self.flat.values.copy_(self.average if self.decay else held)
        self.model.eval()
        try:
            yield self.model
        finally:
            self.flat.values.copy_(held)
            self.model.train()

    def state(self) -> dict[str, Tensor]:
        state = {
            "values": self.flat.values,
            "average": self.average,
            "exp_avg": self.exp_avg,
            "exp_avg_sq": self.exp_avg_sq,
        }
        return state | ({"momenta": self.muon.momenta} if self.muon else {})

    def restore(self, state: dict[str, Tensor], step: int) -> None:
        """Go on from a saved state. Raises DiffgeoError when it belongs to another network or a
        longer training."""
        own = self.state()
        if step > self.trainer.steps or any(
            name not in state or state[name].shape != v.shape for name, v in own.items()
        ):
            raise DiffgeoError(
                "the checkpoint belongs to another network or to a longer training; start a new "
                "run instead"
            )
        for name, v in own.items():
            v.copy_(state[name])
        self.updates.fill_(step)
        self.step = step

    def clean(self, chunk: int, n: int, g: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The clean points of a chunk [n,*D] and, for a network with classes, their labels [n]; the
        same if they are streamed."""
        if getattr(self.data, "streams", False):
            ahead = (generator(self.seed, DATA, c, device=self.device) for c in count(chunk))
            self.streamed = self.streamed or iter(self.data.stream(n, ahead))
            self.data.pick(n, g)  # what the stream drew from its own copy of g
            x0, label = next(self.streamed)
            return x0, label if self.classes else None
        return self.data.sample_labelled(n, g) if self.classes else (self.data.sample(n, g), None)

    def batches(self, chunk: int) -> tuple[Tensor, ...]:
        """The prepared batches of one chunk: inputs, conditioning, targets F*, what F - F* times
        gives dL/dF, and labels if the network is told any; [chunk, rows, ...] with this process's
        rows of each batch.

        Every process draws all of it, so that the draw does not depend on their number.
        """
        batch = self.trainer.batch
        dtype = self.flat.values.dtype
        rows = self.world.rows(self.trainer.batch)
        g = generator(self.seed, DATA, chunk, device=self.device)
        n = self.chunk * batch
        x0, label = self.clean(chunk, n, g)
        sigma = self.schedule.draw(n, g)
        eps = torch.randn(x0.shape, generator=g, device=self.device, dtype=x0.dtype)
        if self.trainer.pool > 1:
            x0, eps = loss.pool(x0, sigma, eps, self.trainer.pool)
        if label is not None:
            hidden = torch.rand(n, generator=g, device=self.device) < self.trainer.unlabelled
            label = label.masked_fill(hidden, -1)
        drawn = [
            v if v is None else v.view(self.chunk, batch, *v.shape[1:])[:, rows].flatten(0, 1)
            for v in (x0, sigma, eps, label)
        ]
        x, noise, target, weight = loss.batch(
            self.model.parameterization, self.weighting, *drawn[:3]
        )
        # L is a mean over batch and coordinates
        slope = expand(2 / (batch * x0[0].numel()) * weight, target)
        parts = [v.to(dtype) for v in (x, noise, target, slope)] + drawn[3:] * bool(self.classes)
        return tuple(v.view(self.chunk, -1, *v.shape[1:]) for v in parts)

    def gradient(
        self, x: Tensor, noise: Tensor, target: Tensor, slope: Tensor, *label: Tensor
    ) -> Tensor:
        """Add the gradient of these rows' share of L to the buffer; returns twice that share."""
        with autocast(self.device, self.precision):
            prediction = self.net(x, noise, **({"label": label[0]} if label else {}))
        error = prediction - target
        # 2 L, whose second factor is dL/dF
        twice = torch.dot(error.flatten(), (slope * error.detach()).flatten())
        twice.backward()
        return twice.detach()

    def update(self) -> None:
        """One step of Muon and Adam along the gradient in the buffer, and of the moving average."""
        trainer = self.trainer
        flat = self.flat
        share = self.trainer.share(self.step)
        if trainer.clip:
            flat.grad.mul_(torch.clamp(trainer.clip / (flat.grad.norm() + 1e-12), max=1.0))
        if self.muon:
            self.muon.step(trainer.muon * share)
        adamw(
            [flat.values],
            [flat.grad],
            [self.exp_avg],
            [self.exp_avg_sq],
            [],
            [self.updates],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=trainer.betas[0],
            beta2=trainer.betas[1],
            lr=trainer.lr * share,
            weight_decay=trainer.weight_decay,
            eps=trainer.eps,
        )
        if self.decay:
            self.average.lerp_(flat.values, 1 - self.decay(self.step))

    def run(self) -> Iterator[Progress]:
        """Train to the end, reporting every `log_every` steps and at the last. Raises DiffgeoError
        on a loss that is not finite."""
        with running(self.precision, recurring=True):
            yield from self._run()

    def _run(self) -> Iterator[Progress]:
        trainer = self.trainer
        world = self.world
        pieces = self.trainer.accumulate
        total = torch.zeros((), device=self.device)
        counted = 0
        chunk = -1
        prepared = []
        self.model.train()
        while self.step < trainer.steps:
            if self.step // self.chunk != chunk:
                chunk = self.step // self.chunk
                prepared = list(zip(*self.batches(chunk), strict=True))
            if self.random:
                torch.manual_seed(
                    generator(self.seed, DROPOUT, self.step, world.rank).initial_seed()
                )
            batch = prepared[self.step % self.chunk]
            self.flat.grad.zero_()
            for piece in (
                [batch]
                if pieces == 1
                else zip(*(v.tensor_split(pieces) for v in batch), strict=True)
            ):
                total += self.gradient(*piece)
            world.sum_(self.flat.grad)
            self.update()
            counted += 1
            self.step += 1
            if self.step % trainer.log_every == 0 or self.step == trainer.steps:
                mean = float(world.sum_(total)) / (2 * counted)
                if not math.isfinite(mean):
                    raise DiffgeoError(
                        f"the loss became {mean} between steps {self.step - counted} and "
                        f"{self.step}: "
                        f"lower trainer.lr (now {trainer.lr:g}), set "
                        "trainer.clip=1, or check the weighting"
                    )
                total.zero_()
                counted = 0
                yield Progress(self.step, mean, trainer.lr * trainer.share(self.step - 1))


def check(trainer: Trainer, model: Network, data: Data, world: World = ALONE) -> int:
    """How many classes the network is told; 0 for none. Raises UsageError where the law has not as
    many, or the processes are too many."""
    if trainer.batch < world.size:
        raise UsageError(
            f"trainer.batch={trainer.batch} is less than one row for each of {world.size} "
            "processes: write more"
        )
    classes = getattr(model.net, "classes", 0)
    known = getattr(data, "classes", 0)
    if classes and classes != known:
        raise UsageError(
            f"net.classes={classes}, but data= has {known or 'no'} classes: write "
            f"net.classes={known}"
        )
    if classes and trainer.pool > 1:
        raise UsageError(
            f"trainer.pool={trainer.pool} would mix the classes: write trainer.pool=1, or "
            "net.classes=0"
        )
    return classes
