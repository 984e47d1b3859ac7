"""A flower: petals around the origin, each a Gaussian that points outwards."""

import math

import torch

from diffgeo.data import Mixture
from diffgeo.errors import UsageError


class Flower(Mixture):
    """The mixture of `petals` Gaussians at equal angles a, of equal weight, with mean
    radius (cos a, sin a) and the deviations `length` outwards and `width` across.

    Raises UsageError on fewer than one petal.
    """

    def __init__(
        self, petals: int = 5, radius: float = 1.0, length: float = 0.3, width: float = 0.05
    ):
        if petals < 1:
            raise UsageError(f"data.petals={petals}: write 1 or more")
        angle = 2 * math.pi * torch.arange(petals, dtype=torch.float64) / petals
        outwards = torch.stack([angle.cos(), angle.sin()], 1)
        across = torch.stack([-angle.sin(), angle.cos()], 1)
        along = length**2 * torch.einsum("ki,kj->kij", outwards, outwards)
        aside = width**2 * torch.einsum("ki,kj->kij", across, across)
        super().__init__(radius * outwards, along + aside)
        self.petals = petals

    def petal(self, x: torch.Tensor) -> torch.Tensor:
        """The petal whose angle is nearest to that of each point, [n,2] -> [n]."""
        turns = torch.atan2(x[:, 1], x[:, 0]) / (2 * math.pi)
        return (turns * self.petals).round().long() % self.petals

    def shares(self, x: torch.Tensor) -> torch.Tensor:
        """The share of the points [n,2] at each petal, [petals]; 1/petals each in the law."""
        return torch.bincount(self.petal(x), minlength=self.petals) / len(x)
