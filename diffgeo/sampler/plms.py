"""PLMS (Liu et al. 2022, section 3.3, as latent diffusion and Stable Diffusion run it): Adams and
Bashforth's weights of equal steps in eps, with one step of Heun's rule to begin with.

    e_0 = eps(x, s),   e_1 = eps(x + (s' - s) e_0, s')
    first step    x' = x + (s' - s) (e_0 + e_1)/2
    after that    x' = x + (s' - s) sum_j w_j eps_j,    w = (3, -1)/2, (23, -16, 5)/12,
                                                            (55, -59, 37, -9)/24

Every eps_j, the present one among them, is of a state that the method has reached; e_1, which
belongs to a predicted one, is forgotten after its step. So N steps cost N + 1 evaluations. In the
coordinate x = x0 + sigma eps the paper's transfer step (its eq. 11, which diffusers calls formula
9) is the step above, for any two levels.

diffusers' PNDMScheduler with skip_prk_steps=true, which a Stable Diffusion folder calls PNDM, takes
these steps. `PNDM`, with Runge and Kutta's rule in the first three steps, takes 9 evaluations more
than steps: it is another method.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from diffgeo.core import Step
from diffgeo.sampler.adams import IPNDM


@dataclass(frozen=True)
class PLMS(IPNDM):
    """IPNDM with four points and Heun's rule in the first step: N + 1 evaluations in N steps.

    A first step into sigma' = 0, where there is no e_1, is Euler's. Of order 2 on steps that grow
    evenly, of order 3, which Heun's rule leaves, on equal steps in sigma. Not for
    lower_order_final, which hides the history, so that the method would begin once more at the end.
    """

    points: int = field(default=4, init=False)

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        if history or sigma_next == 0:
            return super().step(denoise, x, sigma, sigma_next, history, noise)
        denoised = denoise(x, sigma)
        h = sigma_next - sigma
        slope = (x - denoised) / sigma
        predicted = x + h * slope
        slope_at_end = (predicted - denoise(predicted, sigma_next)) / sigma_next
        return Step(x + h * (slope + slope_at_end) / 2, sigma_next, denoised)
