"""The nouns of diffgeo, in one noise coordinate.

Every Gaussian path x_t = alpha_t x0 + sigma_t eps becomes, with x = x_t/alpha_t and
sigma = sigma_t/alpha_t,

    x = x0 + sigma eps,      D(x; sigma) = E[x0 | x],
    dx/dsigma = (x - D)/sigma                           (the probability flow).

Everything else is a view of D:

    eps = (x - D)/sigma,     score = (D - x)/sigma^2,   Cov[x0 | x] = sigma^2 dD/dx.

A schedule is left with three jobs: draw sigma in training, grid sigma in sampling, and name a chart
x_t = scale(sigma) x.

Shapes: B batch, N samples, K steps, *D any data shape. `sigma` is a float, a scalar tensor or a
tensor [B]; sigma = 0 is only ever a target of a step, never an input to a denoiser. This module
imports nothing of the package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

# As typing has them from Python 3.12 on: isinstance looks whether a member is there and does not
# compute it, which for the `key` of a set of images is to read gigabytes.
from typing_extensions import Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from diffgeo.analytic.images import ImageDenoiser
    from diffgeo.simulation import Simulation

Sigma = float | Tensor  # one noise level for the whole batch, or one for each row [B]
Noise = Callable[[], Tensor]  # each call: fresh standard normal noise of the state's shape [B,*D]


class Denoiser(Protocol):
    """E[x0 | x], exact or learned; the two are interchangeable everywhere."""

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor: ...  # x [B,*D] -> [B,*D]


@runtime_checkable
class WithCovariance(Denoiser, Protocol):
    """A denoiser that knows the posterior's covariance without autograd."""

    # Cov[x0 | x] v = sigma^2 (dD/dx) v, v and the answer like x [B,*D]
    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor: ...


@runtime_checkable
class Classes(Protocol):
    """A network F(x, noise, label) of so many classes."""

    classes: int  # 0: it takes no label


class Coefficients(NamedTuple):
    """The four scalars of a parameterization, each [B]: D = skip*x + out*F(inp*x, noise)."""

    skip: Tensor
    out: Tensor
    inp: Tensor
    noise: Tensor


Parameterization = Callable[[Tensor], Coefficients]  # sigma [B] -> four scalars
Weighting = Callable[[Tensor], Tensor]  # sigma [B] -> weight of |D - x0|^2, [B]


@runtime_checkable
class Schedule(Protocol):
    """One monotone map sigma(t) in the schedule's own units (0 data, t_max noise), and the chart
    x_t = scale(sigma) x."""

    @property
    def t_min(self) -> float: ...  # the time of the lowest level it lays

    @property
    def t_max(self) -> float: ...

    def sigma(self, t: Tensor) -> Tensor: ...
    def t(self, sigma: Tensor) -> Tensor: ...
    def scale(self, sigma: Tensor) -> Tensor: ...
    def draw(self, n: int, generator: torch.Generator) -> Tensor: ...  # levels of training, [n]
    def grid(self, steps: int) -> Tensor: ...  # sampling levels [steps+1], decreasing, float64


class Chart(Schedule, Protocol):
    """A schedule that also knows the diffusion of its chart, dx_t = -beta x_t dt + g dW: what a
    scheme asks that a paper states in x_t = scale x."""

    def beta(self, t: Tensor) -> Tensor: ...  # -d log(scale)/dt
    def g2(self, t: Tensor) -> Tensor: ...  # scale^2 d(sigma^2)/dt
    def scale_integral(self, sigma: Tensor) -> Tensor: ...  # int_0^sigma scale(s) d(s^2)
    def __hash__(self) -> int: ...  # charts are values: what was computed of one is remembered


class Step(NamedTuple):
    """One step of a sampler: the new state, its noise level, and the denoised estimate D at the
    state the step left.

    corrected: the state that the step set out from, where a corrector moved it once D was known
        (UniPC, SA-Solver); else None.
    """

    x: Tensor
    sigma: float
    denoised: Tensor
    corrected: Tensor | None = None


@dataclass
class Past:
    """What a multistep method remembers of an earlier step: the level, the state there (corrected,
    if it was) and D there."""

    sigma: float
    x: Tensor
    denoised: Tensor

    @cached_property
    def eps(self) -> Tensor:
        """(x - D)/sigma, computed once."""
        return (self.x - self.denoised) / self.sigma


@runtime_checkable
class Sampler(Protocol):
    """One step of a method, and what has to be known of it. `sampler.base.Method` has what most
    methods share."""

    # in the step size, of the error of the flow (in law, where it draws noise); a test measures it
    @property
    def order(self) -> int: ...

    @property
    def memory(self) -> int: ...  # how many `Past` entries `step` looks at (0: a one-step method)

    @property
    def adaptive(self) -> bool: ...  # whether it chooses its steps between the levels by the state

    # whether it takes the slope at the end of a step too, which at sigma = 0 only a closed form has
    @property
    def at_end(self) -> bool: ...

    # this method on a grid [K+1], for those that must know theirs; else itself
    def on(self, sigmas: Tensor) -> Sampler: ...
    def start(self, noise: Tensor, sigma: float) -> Tensor: ...  # unit noise -> the first state
    # may call `denoise` as often as it likes
    def step(
        self,
        denoise: Denoiser,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        history: list[Past],
        noise: Noise,
    ) -> Step: ...
    # deviation of the noise that a step leaves in a coordinate
    def added_noise(self, sigma: float, sigma_next: float) -> float: ...
    def terminal_noise(self, sigmas: Tensor) -> float: ...  # the same of the last step of a grid


@runtime_checkable
class Fitted(Protocol):
    """A sampler that measures the model and its law before it samples."""

    def fit(self, denoise: Denoiser, data: Data, seed: int = 0) -> Sampler: ...


class Condition(Protocol):
    """What sample i is told: its class, its measurement, nothing."""

    # for a batch of these numbers
    def around(self, denoise: Denoiser, numbers: range, device: torch.device | str) -> Denoiser: ...
    # the method as these samples take it: a step that looks at the measurement is told theirs
    def steered(self, method: Sampler, numbers: range, device: torch.device | str) -> Sampler: ...
    # what is to lie beside the samples, by name; {} for nothing
    def told(self, numbers: range) -> dict[str, Tensor]: ...


class Trajectory(NamedTuple):
    """A recorded sampling run. Straightness and angles depend on the chart, so the chart travels
    with the states."""

    x: Tensor  # [K+1,N,*D]
    denoised: Tensor  # [K,N,*D]
    sigma: Tensor  # [K+1]
    nfe: int
    chart: str = "ve"


@runtime_checkable
class Data(Protocol):
    """A law that can be drawn from. What a law lacks is None or 0: only a curve has a coordinate,
    only a finite law has atoms, only a labelled one has classes. `data.law.Law` says so for all
    that derive from it."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # *D of one sample

    # of a curve: the arc length at the projection of x, [n,*D] -> [n]; the u-quantile of the law in
    # that coordinate, [n] -> [n]; the length of a closed one
    @property
    def coordinate(self) -> Callable[[Tensor], Tensor] | None: ...
    @property
    def quantile(self) -> Callable[[Tensor], Tensor] | None: ...
    @property
    def period(self) -> float | None: ...

    # of a finite law: [k,*D], and [k]
    @property
    def atoms(self) -> Tensor | None: ...
    @property
    def weights(self) -> Tensor | None: ...

    @property
    def classes(self) -> int: ...  # that its samples are labelled with; 0: none
    @property
    def mean(self) -> Tensor: ...  # [*D], float64
    @property
    def std(self) -> float: ...  # the root mean variance of a coordinate
    @property
    def key(self) -> str: ...  # identifies the law and its parameters, stable across processes

    def sample(self, n: int, generator: torch.Generator) -> Tensor: ...  # [n,*D], on its device
    def store(self, x: Tensor) -> np.ndarray: ...  # samples as samples.npy holds them
    def restore(self, array: np.ndarray) -> Tensor: ...  # the inverse


@runtime_checkable
class Known(Data, Protocol):
    """A law whose exact denoiser is known."""

    def denoiser(self) -> Denoiser: ...


@runtime_checkable
class Manifold(Known, Protocol):
    """A law on a support of intrinsic dimension `dim`, whose exact denoiser is known."""

    @property
    def dim(self) -> int: ...
    def project(self, x: Tensor) -> Tensor: ...  # the nearest point of the support, [n,*D]
    def tangent(self, p: Tensor) -> Tensor: ...  # an orthonormal basis there, [n,d,dim]
    def distance(self, x: Tensor) -> Tensor: ...  # to the support, [n]


@runtime_checkable
class Streamed(Data, Protocol):
    """A finite set that is drawn by row number, so that its rows may be read ahead of their use."""

    @property
    def labels(self) -> Tensor | None: ...  # int64 [N] in 0..classes-1
    @property
    def streams(self) -> bool: ...  # whether `stream` is the way to read it here
    # what `sample` draws from the generator: rows [n], and which of them are mirrored (None: none)
    def pick(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]: ...
    # (x0 [n,*D], labels [n]), the same x0 as `sample`
    def sample_labelled(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]: ...
    def stream(  # the same for each generator in turn, labels None where the set has none
        self, n: int, generators: Iterable[torch.Generator]
    ) -> Iterator[tuple[Tensor, Tensor | None]]: ...


@runtime_checkable
class Pictures(Data, Protocol):
    """A law, or a model without one, whose samples are seen as pictures held as bytes."""

    @property
    def picture(self) -> tuple[int, ...]: ...  # (C, H, W)
    @property
    def low(self) -> float: ...  # the value of black
    @property
    def high(self) -> float: ...  # the value of white
    @property
    def name(self) -> str: ...
    @property
    def root(self) -> Path | None: ...  # the folder of prepared sets that it was read from
    def quantize(self, x: Tensor) -> Tensor: ...  # samples -> uint8 [n,C,H,W]; bytes pass through


@runtime_checkable
class ImageSet(Manifold, Streamed, Pictures, Protocol):
    """A set of pictures, each as likely as the others (and its mirror image, under `flip`). A
    sample is low + (high - low) byte/255."""

    @property
    def images(self) -> Tensor: ...  # uint8 [N,C,H,W]
    @property
    def flip(self) -> bool: ...
    @property
    def split(self) -> str: ...  # train or test
    def __len__(self) -> int: ...
    def dequantize(self, pixels: Tensor) -> Tensor: ...  # bytes -> numbers, float32
    def rows(self, index: Tensor) -> Tensor: ...  # the bytes of some images, [n] -> [n,C,H,W]
    # bytes, and which are mirrored [n] -> x0
    def finish(self, pixels: Tensor, mirrored: Tensor | None) -> Tensor: ...
    def label(self, index: Tensor) -> Tensor: ...  # of some images, [n] -> [n]
    def other(self) -> ImageSet | None: ...  # the law of the other split, where there is one
    def denoiser(self) -> ImageDenoiser: ...


@runtime_checkable
class Uneven(Data, Protocol):
    """A law of atoms or images that do not weigh the same, such as the posterior of a set."""

    @property
    def log_weights(self) -> Tensor: ...  # of sum 1, float64: [N], or of images [G,N]


class Run(NamedTuple):
    """What a metric may look at: a cloud, and when there was one, the simulation that made it."""

    samples: Tensor  # [N,*D]
    seed: int = 0  # of every reference draw a metric makes
    numbers: range = range(0)  # of the samples in their simulation
    simulation: Simulation | None = None  # None: a cloud from a file
    exact: bool = False  # whether the simulation's denoiser is the law's own
    nfe: float | None = None  # network evaluations a sample; None: the samples were read, not drawn
    alpha: str | None = None  # what became of it in pictures that were read; None: they have none

    @property
    def denoise(self) -> Denoiser | None:
        """The denoiser that the samples were made with."""
        return None if self.simulation is None else self.simulation.denoise


@runtime_checkable
class Metric(Protocol):
    """Numbers of a run, by name. `metrics.Measure` has all of this but the call, so that a metric
    which derives from it says only what it does otherwise."""

    # {} where the law or the run lacks what the metric needs
    def __call__(self, run: Run, data: Data) -> dict[str, float]: ...

    @property
    def floors(self) -> bool: ...  # whether it has a value of fresh true samples: a noise floor
    @property
    def needs_run(self) -> bool: ...  # whether a cloud without a simulation is refused
    @property
    def prefix(self) -> str | None: ...  # of the keys that `text` shows; None: the table shows them
    @property
    def identity(self) -> str | None: ...  # a digest of the files that its values depend on
    # load what n samples will need, so that what is missing is said before a run
    def prepare(self, data: Data, n: int) -> None: ...
    def describe(self, run: Run, data: Data) -> dict: ...  # what makes the numbers comparable
    # `values` as a reader sees those that begin with `prefix`
    def text(self, values: Mapping[str, float]) -> str: ...


@overload
def expand(v: Tensor, x: Tensor) -> Tensor: ...
@overload
def expand(v: float, x: Tensor) -> float: ...
def expand(v: Sigma, x: Tensor) -> Sigma:
    """View a per-row quantity [B] so that it broadcasts against x [B,*D]; floats and scalar tensors
    pass through."""
    if not isinstance(v, Tensor) or v.dim() == 0:
        return v
    ones = (1,) * (x.dim() - 1)
    return v.view(-1, *ones)


def column(sigma: Sigma, x: Tensor) -> Tensor:
    """`sigma` as a tensor [B] of x's dtype and device, one entry for each row of x."""
    return torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))


def generator(seed: int, *stream: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one named stream of a seeded run: the same (seed, *stream) gives the same
    draws, always."""
    key = 0x9E3779B97F4A7C15
    for word in (seed, *stream):  # splitmix64, so that neighbouring seeds share nothing
        key = (key + word + 0x9E3779B97F4A7C15) & (2**64 - 1)
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        key ^= key >> 31
    return torch.Generator(device).manual_seed(key & (2**63 - 1))
