"""Three modes on the line (means -4, 0, 5, weights .3, .5, .2, variance 1): each sampler's law
exactly, by its transition kernel.

The rates are those of the Gaussian: TV ~ 1/N and KL ~ 1/N^2 for the reverse diffusion and TV ~ 1/N
for the flow; the certificate ~ 1/N. In d independent copies TV ~ sqrt(d)/N, again, for the reverse
diffusion itself.

DPUM's corrector carries a velocity, so its law is sampled: total variation over bins, whose noise
floor stands beside it.
"""

from __future__ import annotations

from functools import partial

import torch

from diffgeo.core import generator
from diffgeo.denoiser import Counted
from diffgeo.sampler import DPUM, steps
from diffgeo.sampler.dpum import ExponentialFlow
from diffgeo.schedule.stages import Stages
from diffgeo.theory.convergence.experiment import (
    HORIZON,
    SMOOTHNESS,
    Experiment,
    chart,
    final,
    powers,
    sampler,
    series,
    uniform,
)
from diffgeo.theory.convergence.girsanov import path_kl_of
from diffgeo.theory.convergence.kernel import Modes, kl, line, propagate, transport, tv
from diffgeo.theory.variation import product_tv

LAW = Modes((-4.0, 0.0, 5.0), (0.3, 0.5, 0.2))
HALF = 11.0
NODES = 441


def path(n: int, law: Modes = LAW) -> float:
    """The certificate's discretization term, exact: entropies and Fisher informations by
    quadrature."""
    times = uniform(n)
    nodes = line(14.0, 1401)
    fisher = torch.tensor([law.fisher(float(t), nodes) for t in times[:-1]], dtype=torch.float64)
    return path_kl_of((law.entropy(HORIZON, nodes), law.entropy(0.0, nodes)), fisher, times)


def binned(samples: torch.Tensor, law: Modes = LAW, bins: int = 60) -> float:
    """TV over `bins` equal cells of [-9, 10] and the two tails."""
    edges = torch.linspace(-9, 10, bins + 1, dtype=torch.float64)
    cells = torch.cat([edges.new_zeros(1), law.cdf(edges), edges.new_ones(1)]).diff()
    counts = torch.bincount(torch.bucketize(samples, edges), minlength=bins + 2)
    return float((counts / len(samples) - cells).abs().sum()) / 2


def sampled(h: float, draws: int, seed: int = 0, law: Modes = LAW) -> tuple[int, float, int, float]:
    """(calls, TV) of DPUM and of its predictor alone, with steps h, from `draws` samples; L = 4 as
    in the Gaussian experiments."""
    stages = Stages(L=SMOOTHNESS, h_pred=h, t_min=1e-4)
    levels = stages.grid()
    found = []
    for k, method in enumerate((DPUM(stages=stages), ExponentialFlow(stages))):
        denoise = Counted(law.denoiser())
        noise = partial(torch.randn, draws, 1, generator=generator(seed, k), dtype=torch.float64)
        start = method.start(noise(), float(levels[0]))
        x = final(steps(method, denoise, start, levels, noise))
        found += [denoise.nfe, binned(x[:, 0] * float(stages.scale(levels[-1])))]
    return tuple(found)


def floor(draws: int, seed: int = 0, law: Modes = LAW) -> float:
    """The TV of so many draws of the law itself."""
    random = generator(seed, 9)
    modes = torch.multinomial(torch.tensor(law.weights), draws, replacement=True, generator=random)
    centres = torch.tensor(law.means, dtype=torch.float64)[modes]
    return binned(centres + torch.randn(draws, generator=random, dtype=torch.float64))


def mixture(full: bool = False) -> list[Experiment]:
    grids = [int(n) for n in powers(25, 2, 5)]
    nodes = line(HALF, NODES)
    fine = line(9.0, 2001)
    ei = [propagate(LAW, sampler("EI"), uniform(n), nodes) for n in grids]
    em = [propagate(LAW, sampler("EM"), uniform(n), nodes) for n in grids]
    flow = [transport(LAW, ExponentialFlow(chart()), uniform(n), fine) for n in grids]
    long = [int(n) for n in powers(25, 2, 8 if full else 6)]
    copies = (1.0, 4.0, 16.0, 64.0, 256.0)
    _, weights, q = ei[grids.index(100)]
    of_copies = [product_tv(LAW.density(nodes), q, weights, int(d)) for d in copies]
    return [
        Experiment(
            "mixture/N",
            "three modes on the line, exact laws",
            "N",
            tuple(grids),
            (
                series("tv", "TV, EI-DDPM", grids, [tv(LAW, g) for g in ei], -1.0),
                series("kl", "KL, EI-DDPM", grids, [kl(LAW, g) for g in ei], -2.0, last=2),
                series("tv_em", "TV, Euler-Maruyama", grids, [tv(LAW, g) for g in em], -1.0),
                series(
                    "tv_flow", "TV, probability flow (EI)", grids, [tv(LAW, g) for g in flow], -1.0
                ),
            ),
            "25 steps are not yet in the range of KL's rate (its slope is of the last two)",
        ),
        Experiment(
            "mixture/path",
            "its certificate",
            "N",
            tuple(long),
            (series("path_kl", "path KL (certificate)", long, [path(n) for n in long], -1.0),),
        ),
        Experiment(
            "mixture/d",
            "independent copies, EI-DDPM of 100 steps",
            "d",
            copies,
            (series("tv", "TV", copies, of_copies, 0.5),),
        ),
    ]


def calls(full: bool = False) -> list[Experiment]:
    """DPUM and the reverse diffusion at the same number of calls, on the mixture."""
    draws = 400_000 if full else 100_000
    found = [sampled(h, draws) for h in (0.25, 0.125, 0.0625)]
    spent, dpum, _, flow = zip(*found, strict=True)
    ddpm = [tv(LAW, propagate(LAW, sampler("EI"), uniform(n), line(HALF, NODES))) for n in spent]
    none = floor(draws)
    title = f"three modes on the line against calls of the score; DPUM from {draws} draws"
    return [
        Experiment(
            "calls/N",
            title,
            "calls",
            tuple(map(float, spent)),
            (
                series("dpum", "TV, DPUM (L = 4)", spent, dpum, fitted=False, noise=none),
                series("ddpm", "TV, EI-DDPM with as many calls (exact)", spent, ddpm, fitted=False),
                series(
                    "flow",
                    "TV, DPUM's predictor alone (fewer calls)",
                    spent,
                    flow,
                    fitted=False,
                    noise=none,
                ),
            ),
            "on the line the reverse diffusion is slightly better than DPUM at equal calls; what "
            "DPUM has over it is the better certificate",
        )
    ]
