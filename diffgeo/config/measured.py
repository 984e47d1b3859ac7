"""`operator=`, `y=` and `sigma_n=` of a command that samples: the law becomes p(x0 | y), and its
exact denoiser that of the posterior.

A command with `algorithm=` or `algorithms=` (restore) asks what an approximation makes of the
measurement, and leaves the law as it is.
"""

from __future__ import annotations

import math

import torch
from omegaconf import ListConfig, OmegaConf
from torch import Tensor

from diffgeo.analytic.measurement import Operator
from diffgeo.config.kinds import plain, shown
from diffgeo.core import Data, Manifold
from diffgeo.errors import UsageError
from diffgeo.inverse.posterior import Posterior, Prior
from diffgeo.store.arrays import read_array


def conditions(cfg) -> bool:
    """Whether the law of a config is to be conditioned on a measurement. Raises UsageError where
    only a part of one is written."""
    if "algorithm" in cfg or "algorithms" in cfg:
        return False
    there = [key for key in ("operator", "y", "sigma_n") if cfg.get(key) is not None]
    if there == ["operator", "y", "sigma_n"]:
        return True
    if there:
        raise UsageError(
            f"{there[0]}= is a part of a measurement y = A(x0) + sigma_n n: write all three of "
            "operator=, y= and sigma_n=, e.g. operator=matrix operator.file=A.npy y=[1.2] "
            "sigma_n=.4"
        )
    return False


def table(value) -> Tensor:
    """The numbers that y= gives, as they are: a number, a list of them, or a FILE.npy. Raises
    UsageError."""
    what = f"y={shown(value)}: write numbers, as y=[1.2], or FILE.npy"
    if isinstance(value, str):
        return torch.from_numpy(read_array(value, "y"))
    if isinstance(value, ListConfig):
        try:
            return torch.tensor(OmegaConf.to_container(value), dtype=torch.float64)
        except (ValueError, TypeError) as error:
            raise UsageError(what) from error
    if isinstance(value, int | float) and not isinstance(value, bool):
        return torch.tensor([float(value)], dtype=torch.float64)
    raise UsageError(what)


def posterior(data: Data, operator: Operator, value, sigma_n: float) -> Posterior:
    """The law given the one measurement that y= names; what it is worth is printed. Raises
    UsageError."""
    if not isinstance(data, Prior):
        raise UsageError(
            f"operator=: {type(data).__name__} does not know its posterior; write data= a law or a "
            "set of images of diffgeo's"
        )
    y = table(value)
    shape = tuple(operator.measured)
    if y.numel() != math.prod(shape) or tuple(y.shape) not in (shape, (1, *shape)):
        raise UsageError(
            f"y={shown(value)} has shape {list(y.shape)}, and operator= measures {list(shape)}: "
            "write one y of that shape"
        )
    law = data.given(operator, y.view(shape), plain("sigma_n", sigma_n))
    print(said(law))
    return law


def said(law: Posterior) -> str:
    """What a posterior is worth, in a line."""
    parts = []
    if law.log_evidence is not None:
        parts.append(f"log p(y) = {law.log_evidence:.6g} nats")
    if law.ess is not None:
        parts.append(f"effective sample size of its atoms {law.ess:.4g}")
        if law.ess < 2 and isinstance(law, Manifold) and law.dim == 0:
            parts.append("nearly one atom: the spread of these samples says nothing")
    return "posterior: " + (", ".join(parts) or "no density of y without noise")
