"""Algorithms that weight particles."""

from __future__ import annotations

from diffgeo.inverse.algorithm import Algorithm
from diffgeo.inverse.steps.twisted import Twisted
from diffgeo.inverse.steps.twists import twist_of


def tds(
    particles: int = 256, twist: str = "pigdm", t: float = 1.0, resample: float = 1.0
) -> Algorithm:
    """Twisted SMC (Wu et al. 2023), with evidence and effective sample size. Samples the posterior
    of the N-step prior as the particles grow in number (tests/test_particles.py: on G4 30 steps it
    is .165 from the posterior itself), and nothing of the kind where the effective sample size is
    small, as it is with twist=dps."""
    return Algorithm(step=Twisted(twist_of(twist, t), particles, resample))
