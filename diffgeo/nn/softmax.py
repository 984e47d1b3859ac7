"""The score of a mixture of identity-covariance Gaussians is a softmax network with one hidden
layer and a skip connection.

For x0 ~ sum_j w_j N(mu_j, I), x_t = a x0 + sqrt(1-a^2) z, a = e^(-t), and b_j = log w_j (Lee's
lectures, equation (1), there at t = 0):

    s_t(x_t) = sum_j r_j a mu_j - x_t,      r = softmax_j(<x_t, a mu_j> - a^2 |mu_j|^2/2 + b_j).

In the package's coordinate, a^2 = 1/(1+sigma^2) and x = x_t/a, with components of any common
deviation s:

    D(x; sigma) = (s^2 x + sigma^2 sum_j r_j mu_j)/(s^2+sigma^2)
    r           = softmax_j((<x, mu_j> - |mu_j|^2/2)/(s^2+sigma^2) + b_j).

A net predicts F, where D = skip x + out F(inp x, noise). Here D is known, so that
F = (D - skip x)/out: the same mixture, exactly, under every parameterization. Under `epsilon` with
s = 1 it is F = -sqrt(1-a^2) s_t, whose plain square loss |F - z|^2 is the DDPM objective
E|sigma_t s_t + z|^2 (Shah, Chen, Klivans 2023); under `score` it is s_t itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffgeo.core import Parameterization
from diffgeo.errors import UsageError
from diffgeo.parameterization import Conditioned, flow_time, ou_time, quarter_log

# conditioning scalar -> its inverse: the noise level that a value of it stands for
LEVEL: dict[Callable, Callable[[Tensor], Tensor]] = {
    quarter_log: lambda noise: torch.exp(4 * noise),
    ou_time: lambda t: torch.sqrt(torch.expm1(t)),
    flow_time: lambda t: t / (1 - t),
}


class Softmax(nn.Module):
    """F of a mixture of `components` Gaussians N(mu_j, std^2 I) of weights proportional to e^(b_j),
    under `parameterization`.

    shape: of a point, *D.
    std: the components' deviation, in units of the data.
    unit: the deviation of the data by which the model divides (model.sigma_data).
    learn_std: let training find the common deviation too.
    deck: r = softmax_j(<x, mu_j>/(std^2+sigma^2)), equation (1) as the lectures print it, without
        norms and weights: right for components of equal norm and weight alone.
    pace: what all parameters are multiplied by. Adam moves every parameter by its rate, whatever it
        means: with pace = 20 a rate of .001, right for the weights of a deep network, moves a mean
        by .02.

    Parameters: `points` [components*d], the means in units of `unit`, standard normal at first;
    `bias` [components]; `stretch` [], s = std e^stretch. The points are one vector, lest Muon take
    them for the matrix of a linear map.
    Raises UsageError on components or deviations that are not positive, and on a model without a
    parameterization whose noise it knows.
    """

    def __init__(
        self,
        shape,
        parameterization: Parameterization | None,
        components: int = 4,
        std: float = 1.0,
        unit: float = 1.0,
        learn_std: bool = False,
        deck: bool = False,
        pace: float = 1.0,
    ):
        super().__init__()
        if components < 1 or not min(std, unit, pace) > 0:
            raise UsageError(
                f"net.components={components}, net.std={std:g}, net.unit={unit:g}, "
                f"net.pace={pace:g}: write 1 component or more, and numbers above 0"
            )
        if not isinstance(parameterization, Conditioned) or parameterization.noise not in LEVEL:
            raise UsageError(
                "net=softmax must know what its model predicts and how it tells the noise level: "
                "write model=cem, epsilon, edm, v, velocity or score, with noise "
                f"{', '.join(noise.__name__ for noise in LEVEL)}"
            )
        self.shape = tuple(shape)
        self.std = std / unit
        self.unit = unit
        self.deck = deck
        self.parameterization = parameterization
        self.pace = pace
        self.components = components
        self.points = nn.Parameter(torch.randn(components * math.prod(shape)) / pace)
        self.bias = nn.Parameter(torch.zeros(components), requires_grad=not deck)
        self.stretch = nn.Parameter(torch.zeros(()), requires_grad=learn_std)

    @torch.no_grad()
    def assign(self, means: Tensor, weights: Tensor) -> Softmax:
        """Make it the mixture of `means` [components,d] and `weights` [components], in units of the
        data; returns itself."""
        self.points.copy_((means / (self.unit * self.pace)).flatten())
        self.bias.copy_(weights.log() / self.pace)
        return self

    def mixture(self) -> tuple[Tensor, Tensor]:
        """(means [components,d], weights [components]) in units of the data."""
        return self.means().detach() * self.unit, (self.pace * self.bias).detach().softmax(0)

    def means(self) -> Tensor:
        """[components,d], in units of `unit`."""
        return (self.pace * self.points).view(self.components, -1)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """x [B,*D] (already times inp), noise [B] -> F [B,*D]."""
        # scalars a row: float64 costs nothing, and 1 - skip cancels
        sigma = LEVEL[self.parameterization.noise](noise.double())
        skip, out, inp, _ = self.parameterization(sigma)
        variance = self.std**2 * (2 * self.pace * self.stretch.double()).exp()
        total = variance + sigma**2
        straight = ((variance / total - skip) / (out * inp)).to(x)[:, None]  # of x
        gain = (sigma**2 / (total * out)).to(x)[:, None]  # of the mean of the centres
        slope = (1 / (total * inp)).to(x)[:, None]  # of <x, mu_j>
        scale = (1 / total).to(x)[:, None]  # of |mu_j|^2/2
        x = x.flatten(1)
        means = self.means()
        logits = slope * (x @ means.mT)
        if not self.deck:
            logits = logits - scale * means.square().sum(1) / 2 + self.pace * self.bias
        return (straight * x + gain * (logits.softmax(1) @ means)).view(-1, *self.shape)
