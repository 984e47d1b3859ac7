"""Denoisers that wrap a network or another denoiser, and the views of D.

    Network:  D(x; sigma) = skip*x + out*F(inp*x, noise)
    guided:   D_null + scale (D_label - D_null)
    views:    eps = (x - D)/sigma,   score = (D - x)/sigma^2,   Cov[x0|x] = sigma^2 dD/dx

A class label is a condition `label`, int64 [B], that every wrapper hands on; -1 in a row, or none
at all, is the denoiser without a class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffgeo.core import (
    Classes,
    Data,
    Denoiser,
    Known,
    Parameterization,
    Sigma,
    WithCovariance,
    column,
    expand,
)
from diffgeo.errors import UsageError
from diffgeo.parameterization import Scaled


class Network(nn.Module):
    """A network F(x, noise) read as a denoiser through a parameterization.

    The scalars are formed in x's dtype, F runs in its own dtype and on its own device, and the
    result is like x: a float64 sampler keeps its state exact, wherever the weights are. A `label`
    goes on to a net that takes one: its forward names it, and its `classes`, if it says them, are
    not 0. To any other net, labelled data is data.

    classes: how many the network is told; 0 for none, and where it does not say.
    conditional: whether it takes a label. pretrained: whether it came with its weights.
    """

    pretrained = False

    def __init__(self, net: nn.Module, parameterization: Parameterization):
        super().__init__()
        self.net = net
        self.parameterization = parameterization
        self.classes: int = net.classes if isinstance(net, Classes) else 0
        takes_label = "label" in inspect.signature(net.forward).parameters
        self.conditional = takes_label and (self.classes > 0 or not isinstance(net, Classes))

    def forward(self, x: Tensor, sigma: Sigma, *, label: Tensor | None = None, **cond) -> Tensor:
        skip, out, inp, noise = self.parameterization(column(sigma, x))
        weights = next(self.net.parameters())  # of the net's dtype, on its device
        if self.conditional and label is not None:
            cond["label"] = label.to(weights.device)
        prediction = self.net((expand(inp, x) * x).to(weights), noise.to(weights), **cond)
        return expand(skip, x) * x + expand(out, x) * prediction.to(x)


@dataclass(frozen=True)
class Guided:
    """Classifier-free guidance (Ho & Salimans 2022): D = D_null + scale (D_label - D_null), the
    field of p(x) p(label | x)^scale.

    Both halves in one doubled batch, so a call costs two rows a sample (`Counted` inside sees them,
    around it sees one). scale 1 is the conditional denoiser, 0 the unconditional one, one call
    each; the paper's w is scale - 1. Without a label, D is D_null.

    rescale: phi in [0, 1] of Lin et al. (2024, equation 16), on what the network predicts under
        `parameterization`, F = (D - skip x)/out: with deviations over a sample's numbers, n - 1,
        F <- phi F std(F_label)/std(F) + (1 - phi) F. 0: no rescaling.
    Raises UsageError on a rescale without a parameterization.
    """

    denoise: Denoiser
    scale: float = 1.0
    rescale: float = 0.0
    parameterization: Parameterization | None = None

    def __post_init__(self):
        if self.rescale and self.parameterization is None:
            raise UsageError("guidance_rescale needs a network, whose prediction it rescales")

    def __call__(self, x: Tensor, sigma: Sigma, *, label: Tensor | None = None, **cond) -> Tensor:
        if label is None or (self.scale == 0 and not self.rescale):
            return self.denoise(x, sigma, label=None, **cond)
        if self.scale == 1:  # rescaled to the deviation that it has
            return self.denoise(x, sigma, label=label, **cond)
        labels = torch.cat([torch.full_like(label, -1), label])
        others = {name: twice(value) for name, value in cond.items()}
        both = self.denoise(twice(x), twice(sigma), label=labels, **others)
        null, conditional = both.chunk(2)
        guided = null + self.scale * (conditional - null)
        if not self.rescale or self.parameterization is None:
            return guided
        skip, out, _, _ = self.parameterization(column(sigma, x))
        kept = expand(skip, x) * x
        predicted = (guided - kept) / expand(out, x)
        wanted = deviations((conditional - kept) / expand(out, x))
        rescaled = predicted * (wanted / deviations(predicted))
        mixed = self.rescale * rescaled + (1 - self.rescale) * predicted
        return kept + expand(out, x) * mixed


def deviations(x: Tensor) -> Tensor:
    """The deviation of the numbers of each sample, over n - 1, like x [B,1,...]."""
    return x.flatten(1).std(1).view(-1, *(1,) * (x.dim() - 1))


def twice(value):
    """What a doubled batch is told: a tensor with one entry a row twice, anything else as it is."""
    return torch.cat([value, value]) if isinstance(value, Tensor) and value.dim() else value


@dataclass(frozen=True, eq=False)
class Labelled:
    """`denoise` for a batch whose rows have the classes `labels`, int64 [B]: what a sampler is
    given, which knows of no classes.

    Raises UsageError when a sampler asks for another number of rows: it then no longer says which
    sample a row belongs to.
    """

    denoise: Denoiser
    labels: Tensor

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        if len(x) != len(self.labels):
            raise UsageError(
                f"the sampler asks for {len(x)} rows of a batch of {len(self.labels)} labelled "
                "samples; labels need a sampler that moves a batch as a whole, such as "
                "sampler=heun or sampler=ddim"
            )
        return self.denoise(x, sigma, label=self.labels.to(x.device), **cond)


class Counted:
    """Counts network evaluations: `nfe` batched calls and `rows` states since the start. A product
    with dD/dx counts as one, be it autograd's pass back through D or a closed form."""

    def __init__(self, denoise: Denoiser):
        self.denoise = denoise
        self.nfe = 0
        self.rows = 0

    def add(self, like: Tensor) -> None:
        """Count one evaluation of these rows."""
        self.nfe += 1
        self.rows += len(like)

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        self.add(x)
        denoised = self.denoise(x, sigma, **cond)
        if denoised.requires_grad:
            denoised.register_hook(self.add)
        return denoised

    def standing_in(self, other: Denoiser) -> StandIn:
        """`other`, its calls counted here as those of the denoiser that it replaces."""
        return StandIn(other, self)


class CountedCovariance(Counted):
    """`Counted` of a denoiser that knows its covariance."""

    denoise: WithCovariance

    def covariance_product(self, x: Tensor, sigma: Sigma, v: Tensor, **cond) -> Tensor:
        self.add(x)
        return self.denoise.covariance_product(x, sigma, v, **cond)


def counting(denoise: Denoiser) -> Counted:
    """`denoise` that counts, and knows its covariance if it did."""
    return CountedCovariance(denoise) if isinstance(denoise, WithCovariance) else Counted(denoise)


@dataclass(frozen=True, eq=False)
class StandIn:
    """`denoise` whose calls are counted as those of another."""

    denoise: Denoiser
    counted: Counted

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        self.counted.add(x)
        return self.denoise(x, sigma, **cond)


@dataclass(frozen=True)
class AnalyticFirst:
    """The analytical first step (AFS; Dockhorn, Vahdat, Kreis 2022): at `first` and above the law
    is taken for N(0, std^2 I), whose D = x std^2/(std^2 + sigma^2) costs no evaluation.

    eps = x/sqrt(1 + sigma^2), as it is published, is this to O(1/sigma^2) at std = 1.
    """

    denoise: Denoiser
    first: float
    std: float = 1.0

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        if float(torch.as_tensor(sigma).min()) < self.first:
            return self.denoise(x, sigma, **cond)
        return x * expand(self.std**2 / (self.std**2 + sigma**2), x)


@dataclass(frozen=True)
class Thresholded:
    """Dynamic thresholding (Saharia et al. 2022, section 2.3): D clipped to [-s, s] and multiplied
    by limit/s, where s is the `quantile` of |D| in each sample, but at least `limit`. For data in
    [-limit, limit]."""

    denoise: Denoiser
    quantile: float = 0.995
    limit: float = 1.0

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        denoised = self.denoise(x, sigma, **cond)
        size = torch.quantile(denoised.flatten(1).abs(), self.quantile, dim=1)
        s = expand(size.clamp(min=self.limit), x)
        return denoised.clamp(-s, s) * (self.limit / s)


@dataclass(frozen=True)
class Clipped:
    """D clipped to [-limit, limit]: what the DDPM code and diffusers' `clip_sample` do. A multistep
    history then holds clipped values."""

    denoise: Denoiser
    limit: float = 1.0

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        return self.denoise(x, sigma, **cond).clamp(-self.limit, self.limit)


def trainable(denoise: Denoiser) -> bool:
    """Whether a denoiser has weights: a network, as against an exact one."""
    return isinstance(denoise, nn.Module)


def is_own(denoise: Denoiser, data: Data) -> bool:
    """Whether a denoiser is the law's own exact one, not one that stands for it: neither a network
    nor a reference such as the Gaussian of the law's mean and covariance."""
    return isinstance(data, Known) and denoise == data.denoiser()


def epsilon(denoise: Denoiser, x: Tensor, sigma: Sigma, **cond) -> Tensor:
    """E[eps | x] = (x - D)/sigma, [B,*D]."""
    return (x - denoise(x, sigma, **cond)) / expand(sigma, x)


def score(denoise: Denoiser, x: Tensor, sigma: Sigma, **cond) -> Tensor:
    """grad log p_sigma(x) = (D - x)/sigma^2, [B,*D] (Tweedie)."""
    s = expand(sigma, x)
    return (denoise(x, sigma, **cond) - x) / (s * s)


def covariance(denoise: Denoiser, x: Tensor, sigma: Sigma) -> Tensor:
    """Cov[x0 | x] = sigma^2 dD/dx for flat data, [B,d,d]; `denoise` must be differentiable by
    autograd."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        denoised = denoise(x, sigma)
        rows = []
        for i in range(x.shape[1]):
            (row,) = torch.autograd.grad(denoised[:, i].sum(), x, retain_graph=True)
            rows.append(row)
    return column(sigma, x)[:, None, None] ** 2 * torch.stack(rows, 1)


# Builders: what `model=` names. Each is called with the law and a network factory.


def learned(
    data: Data,
    net: Callable[..., nn.Module],
    parameterization: Parameterization,
    sigma_data: float,
    predicts: str,
) -> Network:
    """A trainable denoiser: `net(shape=data.shape)` under `parameterization`, data in units of
    sigma_data.

    `predicts` is what a weighting expression refers to in a config.
    """
    return Network(net(shape=data.shape), Scaled(parameterization, sigma_data))


def exact(data: Data, **unused) -> Denoiser:
    """The law's own exact denoiser. There is nothing to train, so what a network would need is not
    looked at."""
    if not isinstance(data, Known):
        raise UsageError(
            f"model=exact: {type(data).__name__} has no exact denoiser; train a network instead, "
            "e.g. model=cem"
        )
    return data.denoiser()
