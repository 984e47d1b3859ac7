"""The training loop: fresh points of a law, one regression, Adam, a moving average.

    x0, label ~ law,    sigma ~ p(sigma),    eps ~ N(0, I)
    theta <- Adam(grad E w(sigma) |D_theta(x0 + sigma eps; sigma, label) - x0|^2)

What makes it fast in the plane, where a step is a few small matrix products: batches are drawn and
prepared many at a time (`batches`); all parameters are views of one flat buffer, and so are their
gradients (`flat`); the loss is quadratic in F, 2 L = <F - F*, dL/dF>, so that autograd has one
inner product to undo.

Chunk c of batches is drawn from a generator keyed by (seed, c), and dropout by one keyed by (seed,
step, rank): a resumed run needs no random state and repeats the undisturbed one, on a CPU to the
byte (`precision` says what a GPU promises). Nothing waits for the device between two reports, where
the law lies on the device; one in memory or on disk (data.hold) is sent there batch by batch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffgeo.core import Data, Schedule, Weighting, generator
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine.distributed import ALONE, World
from diffgeo.machine.precision import autocast, resolved, running
from diffgeo.training.batches import DATA, Batch, Batches
from diffgeo.training.descent import Descent
from diffgeo.training.flat import Flat
from diffgeo.training.trainer import Trainer

__all__ = ["DATA", "INIT", "Flat", "Progress", "Training"]

# the streams of a run beside DATA
INIT = 2
DROPOUT = 3


class Progress(NamedTuple):
    """What the loop hands out: the step reached, the mean loss since the last report, the rate."""

    step: int
    loss: float
    lr: float


def never() -> bool:
    """What `run` asks where nothing can stop it."""
    return False


class Training:
    """A training in progress: weights, average, moments, the loss since the last report and the
    step, which `state`/`restore` carry from one process to the next.

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
        classes = check(trainer, model, data, world)
        self.trainer = trainer
        self.model = model
        self.data = data
        self.seed = seed
        self.world = world
        self.decay = trainer.decay
        self.flat = Flat(model, trainer.channels_last)
        for values in (self.flat.values, *model.buffers()):
            world.copy_(values)
        self.device = self.flat.values.device
        self.average = self.flat.values.clone()
        self.descent = Descent(trainer, self.flat)
        self.step = 0
        self.total = torch.zeros((), device=self.device)  # twice the loss since the last report
        self.precision = resolved(trainer.precision, self.device, "bf16")
        self.net = torch.compile(model.net) if trainer.compile else model.net
        self.random = drops(model)
        self.batches = Batches(
            trainer,
            data,
            schedule,
            weighting,
            model.parameterization,
            seed=seed,
            told=classes > 0,
            world=world,
            device=self.device,
            dtype=self.flat.values.dtype,
        )

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
        """What a checkpoint holds beside the step, by name; the tensors themselves."""
        own = {"values": self.flat.values, "average": self.average, "total": self.total}
        return own | self.descent.state()

    def restore(self, state: dict[str, Tensor], step: int) -> None:
        """Go on from a saved state. Raises DiffgeoError when it belongs to another network or a
        longer training."""
        own = self.state()
        state = {"total": torch.zeros(())} | state  # an older diffgeo stopped at reports alone
        fits = step <= self.trainer.steps
        for name, v in own.items():
            fits = fits and name in state and state[name].shape == v.shape
        if not fits:
            raise DiffgeoError(
                "the checkpoint belongs to another network or to a longer training; start a new "
                "run instead"
            )
        for name, v in own.items():
            v.copy_(state[name])
        if not self.world.first:
            self.total.zero_()  # what was saved is the sum over the ranks
        self.descent.updates.fill_(step)
        self.step = step

    def gradient(self, batch: Batch) -> Tensor:
        """Add the gradient of these rows' share of L to the buffer; returns twice that share."""
        told = {} if batch.label is None else {"label": batch.label}
        with autocast(self.device, self.precision):
            prediction = self.net(batch.x, batch.noise, **told)
        error = prediction - batch.target
        slope = batch.slope * error.detach()  # dL/dF
        twice = torch.dot(error.flatten(), slope.flatten())
        twice.backward()
        return twice.detach()

    def update(self) -> None:
        """One step of Muon and Adam along the gradient in the buffer, and of the moving average."""
        self.descent.step(self.step)
        if self.decay:
            self.average.lerp_(self.flat.values, 1 - self.decay(self.step))

    def run(self, stop: Callable[[], bool] = never) -> Iterator[Progress]:
        """Train to the end, or to the step after which `stop` says so, reporting every `log_every`
        steps and at the last. Raises DiffgeoError on a loss that is not finite."""
        with running(self.precision, recurring=True):
            yield from self._run(stop)

    def _run(self, stop: Callable[[], bool]) -> Iterator[Progress]:
        trainer = self.trainer
        counted = self.step % trainer.log_every
        self.model.train()
        for batch in self.remaining():
            self.flat.grad.zero_()
            for piece in batch.pieces(trainer.accumulate):
                self.total += self.gradient(piece)
            self.world.sum_(self.flat.grad)
            self.update()
            self.step += 1
            counted += 1
            if self.step % trainer.log_every == 0 or self.step == trainer.steps:
                mean = float(self.world.sum_(self.total)) / (2 * counted)
                self.check_finite(mean, counted)
                self.total.zero_()
                counted = 0
                yield Progress(self.step, mean, trainer.lr * trainer.share(self.step - 1))
            if stop():
                return

    def remaining(self) -> Iterator[Batch]:
        """The batches of the steps that are left, dropout's generator set for each."""
        size = self.batches.chunk
        chunk = None
        prepared: list[Batch] = []
        while self.step < self.trainer.steps:
            if self.step // size != chunk:
                chunk = self.step // size
                prepared = self.batches(chunk).each()
            if self.random:
                g = generator(self.seed, DROPOUT, self.step, self.world.rank)
                torch.manual_seed(g.initial_seed())
            yield prepared[self.step % size]

    def check_finite(self, mean: float, counted: int) -> None:
        """Raise DiffgeoError where the mean loss of the last `counted` steps is not finite."""
        if not math.isfinite(mean):
            raise DiffgeoError(
                f"the loss became {mean} between steps {self.step - counted} and {self.step}: "
                f"lower trainer.lr (now {self.trainer.lr:g}), set trainer.clip=1, or check the "
                "weighting"
            )


def drops(model: nn.Module) -> bool:
    """Whether a model has dropout, so that its steps are random."""
    layers = (m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd))
    return any(layer.p > 0 for layer in layers)


def check(trainer: Trainer, model: Network, data: Data, world: World = ALONE) -> int:
    """How many classes the network is told; 0 for none. Raises UsageError where the law has not as
    many, or the processes are too many."""
    if trainer.batch < world.size:
        raise UsageError(
            f"trainer.batch={trainer.batch} is less than one row for each of {world.size} "
            "processes: write more"
        )
    classes = model.classes
    if classes and classes != data.classes:
        raise UsageError(
            f"net.classes={classes}, but data= has {data.classes or 'no'} classes: write "
            f"net.classes={data.classes}"
        )
    if classes and trainer.pool > 1:
        raise UsageError(
            f"trainer.pool={trainer.pool} would mix the classes: write trainer.pool=1, or "
            "net.classes=0"
        )
    return classes
