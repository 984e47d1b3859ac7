"""One pass down the levels, and everything that is asked on the way.

Beside the model, reference denoisers may set out from the same noise. All of them are one batch for
the sampler,

    z = [x, x*_1, .. x*_R],        D(z) = [model(x), D*_1(x*_1), .. D*_R(x*_R)],

so that a step is taken once, whatever the method is, and each denoiser is asked for all rows that
are wanted of it at once: a reference at x and at its own x* in one reading of the data.

Of a finite law the posterior weights come with D, from the same evaluation. What is kept of a batch
of B rows is (2K + 1) B d numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.analytic.exact import Finite
from diffgeo.core import Denoiser, Sigma, Trajectory
from diffgeo.geometry.paths import length
from diffgeo.simulation import Simulation
from diffgeo.simulation.simulation import check_finite


class Weights(NamedTuple):
    """What the posterior weights of a finite law say at each level that D was asked at."""

    entropy: Tensor  # nats, [K,B]
    neighbours: Tensor  # exp(entropy), [K,B]
    nearest: Tensor  # number of the heaviest atom, int64 [K,B]


class Beside(NamedTuple):
    """The model beside a reference that set out from the same noise; r and x are the model's, r*
    and x* the reference's."""

    states: Tensor  # |x - x*|, [K+1,B]
    estimates: Tensor  # |r(x) - r*(x*)|, [K,B]
    at_x: Tensor  # |r(x) - r*(x)|, [K,B]
    at_star: Tensor  # |r(x*) - r*(x*)|, [K,B]


class Record(NamedTuple):
    """A batch of paths."""

    trajectory: Trajectory
    weights: Weights | None  # None: the model's is no finite law
    beside: dict[str, Beside]


class Watched:
    """A finite law's denoiser that keeps what its weights last said."""

    def __init__(self, denoise: Finite):
        self.denoise = denoise
        self.entropy = torch.empty(0)
        self.nearest = torch.empty(0)

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        posterior = self.denoise.posterior(x, sigma, **cond)
        self.entropy = posterior.entropy
        self.nearest = posterior.nearest
        return posterior.mean


class Call(NamedTuple):
    """What one call of the sampler was answered, and what else was computed for it."""

    answer: Tensor  # [(1+R)B,*D]
    at_x: list[Tensor]  # each reference at x, [B,*D]
    at_star: list[Tensor]  # the model at each x*, [B,*D]
    entropy: Tensor  # of the model's weights at x, [B]; empty where it has none
    nearest: Tensor  # [B]


@dataclass
class Together:
    """The denoiser of the stacked rows.

    model, references: each as it is shown to a sampler.
    rows: B.    joined: whether a denoiser takes several batches at once (labels are for B rows).
    """

    model: Denoiser
    references: Sequence[Denoiser]
    rows: int
    joined: bool
    watched: Watched | None = None

    def __post_init__(self):
        self.calls: list[Call] = []

    def __call__(self, z: Tensor, sigma: Sigma, **cond) -> Tensor:
        x, *stars = z.split(self.rows)
        mine, entropy, nearest = self.of_model([x, *stars], sigma)
        answers = [mine[0]]
        at_x = []
        for reference, star in zip(self.references, stars, strict=True):
            there, own = self.of(reference, [x, star], sigma)
            at_x.append(there)
            answers.append(own)
        answer = torch.cat(answers)
        self.calls.append(Call(answer, at_x, mine[1:], entropy, nearest))
        return answer

    def of_model(self, parts: list[Tensor], sigma: Sigma) -> tuple[list[Tensor], Tensor, Tensor]:
        """The model at several batches, and what its weights say at the first."""
        if self.watched is None:
            return self.of(self.model, parts, sigma), torch.empty(0), torch.empty(0)
        if self.joined:
            answers = self.of(self.model, parts, sigma)
            return answers, self.watched.entropy[: self.rows], self.watched.nearest[: self.rows]
        first = self.model(parts[0], sigma)
        entropy, nearest = self.watched.entropy, self.watched.nearest
        return [first, *self.of(self.model, parts[1:], sigma)], entropy, nearest

    def of(self, denoise: Denoiser, parts: list[Tensor], sigma: Sigma) -> list[Tensor]:
        """A denoiser at several batches of B rows."""
        if self.joined and parts:
            return list(denoise(torch.cat(parts), sigma).split(self.rows))
        return [denoise(part, sigma) for part in parts]

    def taken(self, x: Tensor, sigma: float, denoised: Tensor) -> Call:
        """The call that gave the estimate of a step that left the state x; the ones before it are
        forgotten, the ones after it are the next step's too. A method that answers with no call's
        own estimate is asked for once more."""
        for number, call in enumerate(self.calls):
            if torch.equal(call.answer, denoised):
                self.calls = self.calls[number + 1 :]
                return call
        self(x, sigma)
        asked = self.calls.pop()
        self.calls = self.calls[-1:]
        return asked


@torch.no_grad()
def record(
    simulation: Simulation, numbers: range, references: Mapping[str, Denoiser] | None = None
) -> Record:
    """The paths of the samples of these numbers, and beside them those of each reference from the
    same noise. Raises DiffgeoError where a sample is not finite."""
    references = references or {}
    watched = None
    if isinstance(simulation.denoise, Finite):
        watched = Watched(simulation.denoise)
        simulation = replace(simulation, denoise=watched)
    # a reference is exact at every level: it is not to be asked at those of a network
    loop = replace(simulation.loop, rounding=None)
    plain = replace(simulation, loop=loop)

    start = simulation.start(numbers)
    rows = len(numbers)
    together = Together(
        model=start.denoise,
        references=[plain.shown(reference, numbers) for reference in references.values()],
        rows=rows,
        joined=not simulation.condition.told(numbers),
        watched=watched,
    )
    batches = 1 + len(references)

    def repeated(tensor: Tensor) -> Tensor:
        return torch.cat([tensor] * batches)

    stacked = start._replace(x=repeated(start.x), denoise=together)
    if references:
        stacked = stacked._replace(noise=lambda: repeated(start.noise()))

    sigmas = simulation.sigmas
    levels = len(sigmas) - 1
    x = torch.empty(levels + 1, *start.x.shape, dtype=torch.float64, device=start.x.device)
    denoised = torch.empty_like(x[1:])
    x[0] = start.x
    states = [[] for _ in references]
    estimates = [[] for _ in references]
    at_x = [[] for _ in references]
    at_star = [[] for _ in references]
    entropy = []
    nearest = []

    z = stacked.x
    for k, step in enumerate(simulation.steps(stacked)):
        call = together.taken(z, float(sigmas[k]), step.denoised)
        here, *stars = z.split(rows)
        r, *own = step.denoised.split(rows)
        for j in range(len(references)):
            states[j].append(length(here - stars[j]))
            estimates[j].append(length(r - own[j]))
            at_x[j].append(length(r - call.at_x[j]))
            at_star[j].append(length(call.at_star[j] - own[j]))
        entropy.append(call.entropy)
        nearest.append(call.nearest)
        z = step.x
        x[k + 1] = z[:rows]
        denoised[k] = r
    last, *stars = simulation.kept(z).split(rows)
    x[-1] = last
    check_finite(last)

    beside = {}
    for j, name in enumerate(references):
        states[j].append(length(last - stars[j]))
        beside[name] = Beside(
            states=torch.stack(states[j]),
            estimates=torch.stack(estimates[j]),
            at_x=torch.stack(at_x[j]),
            at_star=torch.stack(at_star[j]),
        )
    weights = None
    if watched is not None:
        H = torch.stack(entropy)
        weights = Weights(H, H.exp(), torch.stack(nearest))
    return Record(Trajectory(x, denoised, sigmas, start.counted.nfe), weights, beside)
