"""Convergence theory of diffusion samplers (Lee's lectures; Chen, Chewi, Lee, Li, Lu, Salim 2023),
measured where the answer is exact.

    dx_t = -x_t dt + sqrt(2) dW,     score s_t L-Lipschitz, known to eps in L2,
                                     N steps h from T to delta, started from N(0, I)

    KL(paths)  <=  KL(p_T | N(0, I))  +  T eps^2  +  T^2 L^2 d/N            (Girsanov)
                   initialization        score       discretization

is the certificate of the reverse diffusion; `girsanov.py` has it in closed form. On Gaussians every
law is exact through theory.linear, on mixtures of the line through `kernel.py`, and TV in any
dimension by `theory.variation`; only DPUM on the mixture is sampled. A module holds a family of
experiments, functions of `full` that return records; EXPERIMENTS names them.
"""

from __future__ import annotations

from collections.abc import Callable

from diffgeo.theory.convergence import dpum, langevin, mixture, perturbation, reverse, stopping
from diffgeo.theory.convergence.experiment import Experiment, Series, slope

EXPERIMENTS: dict[str, Callable[[bool], list[Experiment]]] = {
    "initialization": reverse.initialization,
    "ddpm": reverse.ddpm,
    "score": reverse.score,
    "early_stopping": stopping.early_stopping,
    "perturbation": perturbation.perturbation,
    "regularization": langevin.regularization,
    "ulmc": langevin.ulmc,
    "dpum": dpum.dpum,
    "steps": dpum.needed,
    "mixture": mixture.mixture,
    "calls": mixture.calls,
    "langevin": langevin.langevin,
}
ABOUT = {
    "initialization": "KL(p_T | N(0, I)) against T",
    "ddpm": (
        "the reverse diffusion (EI-DDPM): certificate and error of the output against N, d and L"
    ),
    "score": "a constant score error: what it adds to the certificate and to the output",
    "early_stopping": (
        "singular data: uniform and exponentially decaying grids against delta and N, and "
        "W2(p_0, p_delta)"
    ),
    "perturbation": "the change of the score in a step along the flow and along the diffusion",
    "regularization": "W2 into TV by a short run of underdamped Langevin",
    "ulmc": "stationary bias of underdamped Langevin against h, d and L",
    "dpum": "DPUM with every call counted, against h, d and the score error",
    "steps": (
        "calls of the score until sqrt(KL/2) = .1 against d: certificate, reverse diffusion, DPUM"
    ),
    "mixture": (
        "three modes on the line by their transition kernels: five samplers' laws, certificate, "
        "independent copies"
    ),
    "calls": "DPUM and the reverse diffusion at equal calls on the three modes",
    "langevin": "Langevin alone against the reverse process on separated modes",
}

WARNING = """\
Read with care: the rate d/N of the reverse diffusion, and with it the headline "O(d) steps
against O(sqrt d)", is a statement about a CERTIFICATE, the KL of paths that Girsanov's theorem
gives, an upper bound. The law of the output is closer by a power of N: on the laws here its KL is
~ d/N^2 and its TV ~ sqrt(d)/N, so the reverse diffusion, too, gets by with ~ sqrt(d) steps. DPUM
asks for about a third fewer calls on these Gaussians; on three modes of the line the reverse
diffusion is slightly better at equal calls. Nothing here shows that samples of DDPM need d steps.\
"""

__all__ = ["ABOUT", "EXPERIMENTS", "Experiment", "Series", "slope"]
