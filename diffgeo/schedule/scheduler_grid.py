"""The grid that a diffusers scheduler_config.json asks for, as far as diffgeo lays it: the columns
of of_diffusers.py by class, and the keys of the file that move a level.

    timestep_spacing, steps_offset      how the timesteps are laid
    set_alpha_to_one (DDIM, PNDM), final_sigmas_type (DPM-Solver, UniPC, Euler)
                                        whether the last step ends at sigma = 0 or at t = 0
    use_karras_sigmas                   of Euler and LMS

Where a file leaves one out, it is what diffusers' class has: PNDM and DEIS end at t = 0, the others
at sigma = 0; DDPM, DDIM and PNDM are leading, the others linspace.
"""

from __future__ import annotations

import math

from diffgeo.schedule.discrete import Betas, Discrete
from diffgeo.schedule.entries import Entries
from diffgeo.schedule.of_diffusers import SPACINGS, FromNoise, Spaced, SpacedLevels

# whose grids of_diffusers.py lays: its three columns, by class
ON_TIMESTEPS = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")
AHEAD = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler")
ON_LEVELS = ("EulerDiscreteScheduler", "LMSDiscreteScheduler")
STEPPED = (*ON_TIMESTEPS, *AHEAD, *ON_LEVELS)
# how a class spaces its timesteps, and whether its last step goes to sigma = 0, where the file does
# not say
SPACED_BY_DEFAULT = {"leading": ON_TIMESTEPS, "linspace": (*AHEAD, *ON_LEVELS)}
TO_ZERO_BY_DEFAULT = {"PNDMScheduler": False, "DEISMultistepScheduler": False}
GRID = (
    "timestep_spacing",
    "steps_offset",
    "set_alpha_to_one",
    "final_sigmas_type",
    "use_karras_sigmas",
)
# of a grid, which is laid where they are as here, or left out
PLAIN: dict[str, tuple] = {
    "use_exponential_sigmas": (False,),
    "use_beta_sigmas": (False,),
    "use_lu_lambdas": (False,),
    "lambda_min_clipped": (-math.inf, "-Infinity"),
    "interpolation_type": ("linear",),
    "sigma_min": (None,),
    "sigma_max": (None,),
}


class GridEntries(Entries):
    """The entries of a scheduler_config.json that its grid is made of."""

    @property
    def kind(self) -> str:
        return self.config.get("_class_name", ON_TIMESTEPS[0])

    def grid(self, betas: Betas) -> Discrete:
        """The grid of the class, as far as the keys say that diffgeo knows of."""
        usual = "linspace" if self.kind in SPACED_BY_DEFAULT["linspace"] else "leading"
        spacing = self.choice("timestep_spacing", usual, SPACINGS)
        offset = self.number("steps_offset", 0, whole=True)
        if offset < 0:
            self.refuse("steps_offset", "write a whole number from 0")
        offset = offset if spacing == "leading" else 0  # diffusers adds it there alone
        end = -1 if self.to_zero() else 0
        karras = self.flag("use_karras_sigmas", False)
        if self.kind not in ON_LEVELS:
            ahead = self.kind in AHEAD
            return Discrete(betas=betas, timesteps=Spaced(spacing, offset, end, ahead))
        levels = SpacedLevels(spacing, offset, end, karras)
        make = Discrete if spacing == "leading" else FromNoise
        return make(betas=betas, timesteps=levels)

    def to_zero(self) -> bool:
        """Whether the last step goes to sigma = 0, not to the lowest level."""
        usual = TO_ZERO_BY_DEFAULT.get(self.kind, True)
        said = self.flag("set_alpha_to_one", usual)
        word = self.choice("final_sigmas_type", "zero", ("zero", "sigma_min"))
        if self.kind in ("DDIMScheduler", "PNDMScheduler"):
            return said
        if self.kind in ("DDPMScheduler", "DEISMultistepScheduler", "LMSDiscreteScheduler"):
            return usual
        return word == "zero"

    def unlaid(self) -> str:
        """Why diffgeo does not lay the grid that the file asks for; "" where it does."""
        if self.kind not in STEPPED:
            return f"{self.source} is of {self.kind}, whose steps diffgeo does not lay"
        for key, plain in PLAIN.items():
            if self.config.get(key, plain[0]) not in plain:
                return f"{self.source}: {self.shown(key)}: diffgeo does not lay such steps"
        if self.kind in AHEAD and self.config.get("use_karras_sigmas", False):
            return (
                f"{self.source}: {self.shown('use_karras_sigmas')}: {self.kind} then asks the "
                "network at another level than that of the state, and diffgeo does not"
            )
        return ""
