"""What `diffgeo theory restoration` is asked for: a prior, its measurement, the algorithms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import Tensor

from diffgeo.analytic.measurement import Measurement
from diffgeo.config import measured, named
from diffgeo.config.build import build
from diffgeo.config.kinds import plain, shown
from diffgeo.config.limits import part
from diffgeo.config.nearest import advice
from diffgeo.core import Fitted, Sampler
from diffgeo.data.gaussian import Gaussian
from diffgeo.errors import UsageError
from diffgeo.inverse.algorithm import Algorithm
from diffgeo.store.arrays import read_array

OWN = "own step"  # in the column of the sampler, of an algorithm that has one


class Entry(NamedTuple):
    """One algorithm of the table."""

    name: str
    options: str  # as they were typed, "" for those of its config
    algorithm: Algorithm


@dataclass(frozen=True)
class Problem:
    """A Gaussian prior, one measurement of it, and the posterior."""

    prior: Gaussian
    measurement: Measurement
    mean: Tensor  # of the posterior, [d]
    covariance: Tensor  # [d,d]


def problem_of(cfg) -> Problem:
    """The problem that a config asks for. Raises UsageError."""
    prior = prior_of(cfg)
    for key, example in (("y", "y=[1.2]"), ("sigma_n", "sigma_n=.3")):
        if cfg.get(key) is None:
            raise UsageError(f"{key}= is not set: write the measurement, as {example}")
    operator = build(part(cfg, "operator"))(shape=prior.shape)
    y = measured.table(cfg.y)
    if tuple(y.shape) != tuple(operator.measured):
        raise UsageError(
            f"y= has shape {list(y.shape)}, and operator= measures {list(operator.measured)}: "
            "write one y of that shape"
        )
    sigma_n = float(plain("sigma_n", cfg.sigma_n))
    posterior = prior.given(operator, y, sigma_n)
    if not isinstance(posterior, Gaussian):
        raise UsageError(
            "operator= is not linear, so the posterior is no Gaussian: write operator=matrix, or "
            "`diffgeo restore`"
        )
    measurement = Measurement(operator, y, sigma_n)
    return Problem(prior, measurement, posterior.mean, posterior.covariance)


def prior_of(cfg) -> Gaussian:
    """N(mean, covariance), or the Gaussian of data=. Raises UsageError."""
    if cfg.get("covariance") is None:
        if cfg.get("mean") is not None or cfg.get("data") is None:
            raise UsageError(
                "covariance= is not set: write 'covariance=[[2,.5],[.5,1]]', covariance=C.npy, or "
                "data=gaussian"
            )
        data = build(cfg.data)
        if not isinstance(data, Gaussian):
            raise UsageError(
                f"data={type(data).__name__} is no Gaussian: write data=gaussian, or mean= and "
                "covariance="
            )
        return data
    if cfg.get("data") is not None:
        raise UsageError("covariance= and data= are two priors: write one of them")
    covariance = array("covariance", cfg.covariance)
    mean = torch.zeros(len(covariance)) if cfg.get("mean") is None else array("mean", cfg.mean)
    return Gaussian(mean, covariance)


def array(key: str, value) -> Tensor:
    """Finite numbers typed as a list, or of a file. Raises UsageError."""
    if isinstance(value, str):
        found = torch.from_numpy(read_array(value, key))
    else:
        try:
            listed = OmegaConf.to_container(value) if isinstance(value, ListConfig) else [value]
            found = torch.tensor(listed, dtype=torch.float64)
        except (ValueError, TypeError) as error:
            raise UsageError(
                f"{key}={shown(value)}: write numbers, as mean=[.5,-1] or "
                "covariance=[[2,.5],[.5,1]], or FILE.npy"
            ) from error
    if not bool(found.isfinite().all()):
        raise UsageError(f"{key}= holds values that are not finite")
    return found


def entries(value) -> list[Entry]:
    """The algorithms of a list of names and of {name: {option: value}}, each once. Raises
    UsageError."""
    found = []
    for item in value if isinstance(value, ListConfig) else [value]:
        if isinstance(item, DictConfig):
            found += [entry(str(name), options) for name, options in item.items()]
        else:
            found.append(entry(plain("algorithm", item, str), None))
    if not found:
        raise UsageError("algorithm=[] is empty: write one, or several as [exact,diffpir]")
    labels = [(one.name, one.options) for one in found]
    for name, options in labels:
        if labels.count((name, options)) > 1:
            raise UsageError(f"algorithm= names {name} {options} twice: write it once")
    return found


def entry(name: str, options) -> Entry:
    """One algorithm. Raises UsageError on options that are no {option: value}."""
    if options is not None and not isinstance(options, Mapping | DictConfig):
        raise UsageError(
            f"algorithm={{{name}: {shown(options)}}}: write its options, as {{{name}: {{zeta: 1}}}}"
        )
    given = {} if options is None else {str(key): value for key, value in options.items()}
    said = " ".join(f"{key}={shown(value)}" for key, value in given.items())
    return Entry(name, said, named.algorithm(name, given))


def samplers(value) -> dict[str, Sampler]:
    """Samplers of conf/sampler by name. Raises UsageError."""
    there = named.names("sampler")
    found = {}
    for item in value if isinstance(value, ListConfig) else [value]:
        name = plain("sampler", item, str)
        if name not in there:
            told = advice(name, there, "`diffgeo help sampler`")
            raise UsageError(f"sampler={name}: there is none{told}")
        made = named.sampler(name)
        if isinstance(made, Fitted):
            raise UsageError(
                f"sampler={name} is first fitted to a model, so it has no law of its own: write "
                "another sampler"
            )
        found[name] = made
    if not found:
        raise UsageError("sampler=[] is empty: write one, or several as [ddim,ddpm]")
    return found


def finite(value: float) -> float | None:
    """A number of a JSON file: None where it is none."""
    return value if math.isfinite(value) else None
