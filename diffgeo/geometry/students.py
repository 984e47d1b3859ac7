"""Students of one teacher: six methods of distillation, each with the same network, the same loss,
the same optimizer and the same number of updates (the targets: `geometry.distillation`; the
lessons: `geometry.lessons`).

A student is a `Network`: what it says is skip*x + out*F(inp*x, noise), where F is the one network
of all and the four scalars, its reading, are the method's: EDM's, but for DFNO and reflow. The loss
is the mean square of what it says against what it is to say, over out^2: of the error of F. EDM's
reading at s = 0 is x itself: the boundary that CD and CT need. PD has four students of 8, 4, 2 and
1 steps, with a fourth of the updates each; each begins as the one before, which is its teacher, and
the first is taught by the teacher itself.

Students then start from the noise of the teacher's own samples. With k evaluations PD and reflow
make k Euler steps; CD and CT say f, add fresh noise of the next level, and say f again, k times;
KD and DFNO have one evaluation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffgeo.core import Coefficients, Denoiser, Parameterization, expand, generator
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.geometry.distillation import FINEST, nested
from diffgeo.geometry.lessons import Lessons, School, euler
from diffgeo.parameterization import EDM, quarter_log
from diffgeo.simulation import Start
from diffgeo.training import Trainer
from diffgeo.training.descent import Descent
from diffgeo.training.flat import Flat

NFE = (1, 2, 4)  # evaluations with which a student that can do with several is sampled


@dataclass(frozen=True)
class Parallel:
    """DFNO's reading: x_T, always at the level `top`, and s, the level at which its path is asked
    for. x_s = q x_T + (1 - q) F, q = s/top, as one Euler step has it."""

    top: float
    lowest: float  # of the positive levels: stands in for log 0
    sigma_data: float

    def __call__(self, sigma: Tensor) -> Coefficients:
        share = sigma / self.top
        noise = quarter_log(torch.hypot(sigma, torch.full_like(sigma, self.lowest)))
        inp = torch.full_like(sigma, (self.top**2 + self.sigma_data**2) ** -0.5)
        return Coefficients(share, self.sigma_data * (1 - share), inp, noise)


@dataclass(frozen=True)
class Straight:
    """Reflow's reading: the state of the segment at t in 0..1, and its velocity, of size sqrt(1 +
    sigma_data^2) a coordinate."""

    sigma_data: float

    def __call__(self, sigma: Tensor) -> Coefficients:
        size = torch.hypot(sigma, self.sigma_data * (1 - sigma))
        out = torch.full_like(sigma, (1 + self.sigma_data**2) ** 0.5)
        return Coefficients(torch.zeros_like(sigma), out, 1 / size, sigma)


class Answers(NamedTuple):
    """What one student makes of the noise of some samples."""

    method: str
    nfe: int
    samples: Tensor  # [n,*D]
    updates: int
    teacher: int  # evaluations of the teacher that its lessons took, in rows


def consistent(student: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """What a student says of x [B,*D] at the levels [B], without a gradient; at level 0, x."""
    positive = sigma > 0
    with torch.no_grad():
        said = student(x, sigma.where(positive, 1))
    return torch.where(expand(positive.to(x), x) > 0, said, x)


def fit(student: Network, lessons: Lessons, trainer: Trainer, g: torch.Generator) -> None:
    """trainer.steps updates of a student. Raises DiffgeoError where it diverges."""
    student.train()
    flat = Flat(student)
    descent = Descent(trainer, flat)
    for number in range(trainer.steps):
        state, level, answer, below = lessons(trainer.batch, g)
        if below is not None:
            answer = consistent(student, answer, below)
        out = expand(student.parameterization(level).out, state)
        loss = ((student(state, level) - answer) / out).square().mean()
        flat.grad.zero_()
        loss.backward()
        descent.step(number)
    student.eval()
    if not bool(torch.isfinite(flat.values).all()):
        raise DiffgeoError("a student diverged: lower student.lr and student.muon")


def check_trainer(trainer: Trainer, methods: Sequence[str]) -> None:
    """Raise UsageError on what no student honours, and on too few updates for the stages of PD."""
    if trainer.decay or trainer.pool > 1 or trainer.accumulate > 1 or trainer.compile:
        raise UsageError(
            "students are trained plainly: write student.ema=0, student.pool=1, "
            "student.accumulate=1 and student.compile=false"
        )
    if trainer.precision != "float32" or trainer.channels_last:
        raise UsageError(
            "students are trained in float32: write student.precision=float32 and "
            "student.channels_last=false"
        )
    stages = FINEST.bit_length()
    if "PD" in methods and trainer.steps < stages:
        raise UsageError(
            f"updates={trainer.steps}: PD shares them out among {stages} stages; write "
            f"updates={stages} or more"
        )


@dataclass(frozen=True)
class Class:
    """What all students share.

    net: makes the network of one. trainer: trainer.steps updates each. sigma_data: the deviation of
    the law. seed: of the first weights, the same for all, and of the batches.
    """

    net: Callable[..., nn.Module]
    trainer: Trainer
    sigma_data: float
    seed: int

    def student(self, shape: tuple[int, ...], reading: Parameterization) -> Network:
        """A new student, who has learnt nothing."""
        torch.manual_seed(self.seed)
        return Network(self.net(shape=shape), reading)

    def fit(self, student: Network, lessons: Lessons, updates: int, stage: int = 0) -> None:
        """So many updates, at the trainer's rates over them."""
        g = generator(self.seed, *b"lessons", stage)
        fit(student, lessons, replace(self.trainer, steps=updates), g)


def numbered(school: School, steps: int) -> Tensor:
    """The levels of a student of so many steps, [steps+1]."""
    return school.sigmas[nested(len(school.sigmas) - 1, steps)]


@torch.no_grad()
def once(student: Denoiser, x: Tensor, sigma: float) -> Tensor:
    """What a student says of x [n,*D] at one level."""
    return student(x, sigma)


def down(denoise: Denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    """Euler's steps from x [n,*D] down the levels."""
    for sigma, below in pairwise(sigmas):
        x = euler(denoise, x, sigma.expand(len(x)), below.expand(len(x)))
    return x


@torch.no_grad()
def again(denoise: Denoiser, start: Start, sigmas: Tensor) -> Tensor:
    """f of the start, and at each lower positive level f of what was said with fresh noise."""
    said = denoise(start.x, float(sigmas[0]))
    for sigma in sigmas[1:-1].tolist():
        said = denoise(said + sigma * start.noise(), sigma)
    return said


@torch.no_grad()
def forward(velocity: Denoiser, z: Tensor, steps: int) -> Tensor:
    """Euler's equal steps of reflow from z at t = 1 to t = 0."""
    x = z
    for number in range(steps):
        x = x - velocity(x, 1 - number / steps) / steps
    return x


# The six: each learns, and answers to the starts that `begin` gives anew


Begin = Callable[[], Start]


def kd(school: School, about: Class, begin: Begin) -> Iterator[Answers]:
    """Knowledge distillation: the end from the start."""
    student = about.student(school.data.shape, EDM(about.sigma_data))
    about.fit(student, school.ends, about.trainer.steps)
    said = once(student, begin().x, school.top)
    yield Answers("KD", 1, said, about.trainer.steps, school.spent["paths"])


def dfno(school: School, about: Class, begin: Begin) -> Iterator[Answers]:
    """DFNO's targets: the whole path from the start, read at its end."""
    lowest = float(school.sigmas[-2])
    student = about.student(school.data.shape, Parallel(school.top, lowest, about.sigma_data))
    about.fit(student, school.points, about.trainer.steps)
    said = once(student, begin().x, 0.0)
    yield Answers("DFNO", 1, said, about.trainer.steps, school.spent["paths"])


def reflow(school: School, about: Class, begin: Begin) -> Iterator[Answers]:
    """Rectified flow on the teacher's pairs."""
    student = about.student(school.data.shape, Straight(about.sigma_data))
    about.fit(student, school.segments, about.trainer.steps)
    for nfe in NFE:
        said = forward(student, begin().x / school.top, nfe)
        yield Answers("reflow", nfe, said, about.trainer.steps, school.spent["paths"])


def pd(school: School, about: Class, begin: Begin) -> Iterator[Answers]:
    """Progressive distillation: 8 steps, then 4, 2, 1."""
    student = about.student(school.data.shape, EDM(about.sigma_data))
    teacher = None
    found = []
    steps = FINEST
    stages = FINEST.bit_length()
    while steps:
        about.fit(student, school.halved(steps, teacher), about.trainer.steps // stages, steps)
        said = down(student, begin().x, numbered(school, steps))
        found.append(Answers("PD", steps, said, about.trainer.steps, school.spent["coarse"]))
        teacher = copy.deepcopy(student)
        steps //= 2
    yield from reversed(found)


def consistency(
    name: str, school: School, about: Class, begin: Begin, lessons: Lessons, spent: str
) -> Iterator[Answers]:
    student = about.student(school.data.shape, EDM(about.sigma_data))
    about.fit(student, lessons, about.trainer.steps)
    for nfe in NFE:
        said = again(student, begin(), numbered(school, nfe))
        yield Answers(name, nfe, said, about.trainer.steps, school.spent.get(spent, 0))


def cd(school: School, about: Class, begin: Begin) -> Iterator[Answers]:
    """Consistency distillation: neighbours on the teacher's path are told the same."""
    yield from consistency("CD", school, about, begin, school.consistent, "steps")


def ct(school: School, about: Class, begin: Begin) -> Iterator[Answers]:
    """Consistency training: the same of neighbours of the same noise, without a teacher."""
    yield from consistency("CT", school, about, begin, school.unbiased, "none")


METHODS = {"KD": kd, "DFNO": dfno, "reflow": reflow, "PD": pd, "CD": cd, "CT": ct}


def own(school: School, begin: Begin, nfes: Sequence[int] = (*NFE, FINEST)) -> Iterator[Answers]:
    """What the teacher does itself with as few evaluations: Euler's steps down every so many of its
    levels, and the jump: one step fewer from the highest level to the lowest, and D there. Both end
    in a denoised estimate; with one evaluation they are the same."""
    start = begin()
    last = len(school.sigmas) - 1
    for nfe in nfes:
        said = down(start.denoise, start.x, numbered(school, nfe))
        yield Answers("Euler", nfe, said, 0, nfe * len(said))
    for nfe in nfes:
        chosen = torch.linspace(0, last - 1, nfe).round().int().tolist()
        said = down(start.denoise, start.x, school.sigmas[[*chosen, last]])
        yield Answers("jump", nfe, said, 0, nfe * len(said))


def answers(school: School, about: Class, begin: Begin, methods: Sequence[str]) -> list[Answers]:
    """The teacher's own, then those of the students of each method."""
    found = list(own(school, begin))
    for name in methods:
        found += METHODS[name](school, about, begin)
    return found
