"""All that a law has of fixed points, dynamics by dynamics: its centre, the branches off it, and
their saddle-nodes.

The origin is the law's mean; it is a symmetric centre where D leaves it where it is at every level.
Then sigma^2 = the top eigenvalue of Cov[x0|centre] is where it stops being a mode of p_sigma, in
every chart. Wells off the centre may be there before: they come in pairs with a saddle at
saddle-nodes, which branches followed upwards from the lowest level run into. Without a symmetric
centre there are only these: one branch goes on to the mean, every other one ends in a saddle-node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffgeo.core import Data, Denoiser, generator
from diffgeo.errors import UsageError
from diffgeo.geometry.symmetry import (
    DYNAMICS,
    SYMMETRIC,
    Centre,
    Dynamics,
    Field,
    centre,
    own_coordinates,
)
from diffgeo.geometry.symmetry_branches import APART, Branch, Fold, fixed_points, follow

LOWEST = 0.25  # over the scale: the level at which branches begin
HIGHEST = 8.0  # over the largest of the scale and the centre's levels: where they are left
SAME = 1e-6  # relative: saddle-nodes at one level
STARTS = 64  # samples of the law that sink into wells
ATOMS = 512  # atoms that all do
MOST = 12  # branches that are followed
WELLS = (1.25, 0.9, 0.7, 0.5)  # times a critical level: where a potential is drawn


@dataclass(frozen=True, eq=False)
class Diagram:
    """One dynamics. centre: None where the law has no symmetric one. wells: how many the lowest
    level has; more than MOST are not all followed."""

    dynamics: Dynamics
    centre: Centre | None
    branches: list[Branch]
    wells: int
    lowest: float
    highest: float

    @property
    def saddle_nodes(self) -> list[tuple[Fold, int]]:
        """Those off the centre, the highest first, and how many branches have one at that level."""
        folds = [fold for branch in self.branches for fold in branch.folds]
        folds.sort(key=lambda fold: -fold.sigma)
        groups: list[tuple[Fold, int]] = []
        for fold in folds:
            if groups and abs(groups[-1][0].sigma / fold.sigma - 1) < SAME:
                groups[-1] = groups[-1][0], groups[-1][1] + 1
            else:
                groups.append((fold, 1))
        return groups

    @property
    def critical(self) -> float:
        """The highest level at which anything happens; the scale of its pictures."""
        levels = [fold.sigma for fold, _ in self.saddle_nodes]
        if self.centre is not None:
            levels += [change.sigma for change in self.centre.changes]
        return max(levels, default=self.lowest / LOWEST)

    def numbers(self) -> dict[str, float]:
        """Its levels by name, for metrics.json."""
        key = f"symmetry/{self.dynamics.key}"
        found: dict[str, float] = {}
        if self.centre is not None and self.centre.lost is not None:
            lost = self.centre.lost
            found[f"{key}/centre_sigma"] = lost.sigma
            found[f"{key}/centre_eigenvalue"] = lost.eigenvalue
            for name, value in own_coordinates(self.dynamics.chart, lost.sigma).items():
                found[f"{key}/centre_{name}"] = value
        for number, (fold, _) in enumerate(self.saddle_nodes):
            found[f"{key}/saddle_node_{number}_sigma"] = fold.sigma
        return found


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A law's field, whether its mean is a symmetric centre, and its diagrams, VE first."""

    field: Field
    symmetric: bool
    asymmetry: float  # the most that D moves the mean, over the scale
    starts: Tensor  # points of the law [n,d], counted from the mean
    diagrams: list[Diagram]

    @property
    def axis(self) -> Tensor:
        """The unit vector [d] of the pictures: from the mean towards a well of the lowest level,
        the one furthest along the law's top principal direction."""
        level = torch.tensor([1e3 * self.field.scale], dtype=torch.float64)
        zero = torch.zeros_like(self.field.origin)[None]
        top = torch.linalg.eigh(self.field.jacobian(zero, level)[0]).eigenvectors[:, -1]
        wells = [branch.y[0] for branch in self.diagrams[0].branches]
        far = [well for well in wells if float(well.norm()) > 1e-3 * self.field.scale]
        if not far:
            return top
        chosen = max(far, key=lambda well: round(abs(float(well @ top)), 9))
        return chosen / chosen.norm()

    def numbers(self) -> dict[str, float]:
        found = {"symmetry/asymmetry": self.asymmetry}
        for diagram in self.diagrams:
            found |= diagram.numbers()
        return found


def starting_points(field: Field, data: Data, seed: int) -> Tensor:
    """Where wells are looked for [n,d], counted from the mean: the atoms, if they are few; else
    samples."""
    if data.atoms is not None and len(data.atoms) <= ATOMS:
        return data.atoms.to(torch.float64) - field.origin
    drawn = data.sample(STARTS, generator(seed, *b"symmetry")).to(torch.float64)
    return drawn - field.origin


def symmetry(
    denoise: Denoiser,
    data: Data,
    lowest: float | None = None,
    highest: float | None = None,
    seed: int = 0,
    dynamics: Sequence[Dynamics] = DYNAMICS,
) -> Symmetry:
    """The fixed points of a denoiser of `data` between two levels (None: LOWEST and HIGHEST).
    Raises UsageError on levels in no order, and as `Field.of`."""
    field = Field.of(denoise, data)
    asymmetry = field.asymmetry(field.levels())
    symmetric = asymmetry < SYMMETRIC
    low = LOWEST * field.scale if lowest is None else lowest
    starts = starting_points(field, data, seed)
    diagrams = []
    for one in dynamics:
        middle = centre(field, one)
        levels = [change.sigma for change in middle.changes]
        high = HIGHEST * max(field.scale, *levels, 0.0) if highest is None else highest
        if not 0 < low < high:
            raise UsageError(f"lowest={low:g} highest={high:g}: write 0 < lowest < highest")
        wells = fixed_points(field, one, low, starts).y
        off = [y for y in wells if not symmetric or float(y.norm()) > 1e-3 * field.scale]
        branches = [follow(field, one, y, low, high, symmetric) for y in off[:MOST]]
        diagrams.append(
            Diagram(one, middle if symmetric else None, branches, len(wells), low, high)
        )
    return Symmetry(field, symmetric, asymmetry, starts, diagrams)


class Wells(NamedTuple):
    """The stable fixed points of a dynamics at one level."""

    sigma: float
    y: Tensor  # [k,d], counted from the mean, in the coordinates of x
    farthest: float  # from the mean, in the chart: scale |y|; 0 where the centre is the only one


def wells(found: Symmetry, diagram: Diagram, levels: Sequence[float] | None = None) -> list[Wells]:
    """The wells at some levels (None: a few about the diagram's critical one, the highest
    first)."""
    if levels is None:
        levels = [factor * diagram.critical for factor in WELLS]
    starts = torch.cat([found.starts, torch.zeros_like(found.starts[:1])])
    every = []
    for sigma in levels:
        fixed = fixed_points(found.field, diagram.dynamics, sigma, starts)
        y = fixed.y[fixed.stable]
        scale = float(diagram.dynamics.scale(torch.tensor(sigma, dtype=torch.float64)))
        far = float(y.norm(dim=1).max()) if len(y) else 0.0
        at_centre = far < APART * found.field.scale
        every.append(Wells(sigma, y, 0.0 if at_centre else scale * far))
    return every
