"""What the tests of stochastic samplers share: a Gaussian, a run on it, and the run of an update
that a paper prints, on the same noise."""

from functools import partial

import torch

from diffgeo.sampler import steps
from diffgeo.simulation.noise import Streams
from diffgeo.theory.orders import EIGENVALUES, KARRAS, LOG, gaussian

__all__ = ["KARRAS", "LAM", "LOG", "SAME", "denoise", "published", "run"]
SAME = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)
LAM = EIGENVALUES
denoise = gaussian(LAM, 0.7)


def run(sampler, sigmas, **loop):
    noise = Streams(torch.arange(30), (4,))
    x = sampler.start(noise(), float(sigmas[0]))
    for step in steps(sampler, denoise, x, sigmas, noise, **loop):
        x = step.x
    return x


def published(update, sigmas):
    """The run of `update(state, past, sigma, sigma', noise) -> x'`, with x' = D in a step to 0;
    past: [(sigma, D)], the newest last."""
    noise = Streams(torch.arange(30), (4,))
    past = []
    x = float(sigmas[0]) * noise()
    for s, s_next in zip(sigmas.tolist(), sigmas[1:].tolist(), strict=False):
        past.append((s, denoise(x, s)))
        x = update(x, past, s, s_next, noise) if s_next > 0 else past[-1][1]
    return x
