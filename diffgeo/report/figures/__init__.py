"""The pictures of a run: one module a figure, found in this folder by its name.

A figure has two functions: `shows(view)`, whether there is anything to draw of such a run, and
`draw(path, view)`, which draws it, and returns where it did if that is elsewhere. `figures=true`
draws all that show something, and `figures=[samples,loss]` those that are named.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from diffgeo.config import plugins
from diffgeo.config.build import Experiment
from diffgeo.config.nearest import advice
from diffgeo.config.plugins.package import modules
from diffgeo.core import ImageSet, Pictures, Run
from diffgeo.denoiser import trainable
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.plot.page import titled
from diffgeo.store.drawing import file_of


class View(NamedTuple):
    """What a figure may look at."""

    experiment: Experiment
    run: Run
    values: Mapping[str, float]  # of the run's metrics
    folder: Path

    @property
    def planar(self) -> bool:
        """Whether the run's samples are points of R^d."""
        return len(self.experiment.data.shape) == 1

    @property
    def pictures(self) -> bool:
        """Whether they are seen as pictures."""
        return isinstance(self.experiment.data, Pictures)

    @property
    def of_set(self) -> bool:
        """Whether they are images of a set, which has others."""
        return isinstance(self.experiment.data, ImageSet)

    @property
    def learned(self) -> bool:
        """Whether a denoiser made the samples that is not the law's own."""
        return self.run.simulation is not None and not self.run.exact

    @property
    def title(self) -> str:
        """What stands above a figure: law, model, sampler and its number of steps; of a cloud that
        is only measured the law alone."""
        names = self.experiment.names
        if names is None:
            return ""
        simulation = self.run.simulation
        if simulation is None:
            return names.law
        said = [names.law, names.model, names.sampler]
        if not simulation.sampler.adaptive:
            count = len(simulation.sigmas) - 1
            said.append(f"{count} {'step' if count == 1 else 'steps'}")
        return ", ".join(filter(None, said))

    @property
    def kind(self) -> str:
        """What made the samples, in a word: a network, or another denoiser in closed form in the
        place of the law's own, such as model=gaussian."""
        return "learned" if trainable(self.experiment.model) else "reference"


def names() -> list[str]:
    """The figures of this folder, and those of the plugins."""
    return sorted([*modules(Path(__file__).parent), *plugins.figures()])


def figure(name: str) -> ModuleType:
    """The module of a figure. Raises UsageError on one of a plugin that cannot be imported, or has
    not both functions."""
    plugin = plugins.figures().get(name)
    if plugin is None:
        return importlib.import_module(f"{__name__}.{name}")
    return plugins.figure(plugin, name)


def chosen(figures: bool | Sequence[str]) -> list[str]:
    """The names that `figures=` asks for. Raises UsageError on one that there is not, or that a
    plugin has and cannot be imported."""
    if figures is False:
        return []
    asked = names() if figures is True else list(figures)
    for name in asked:
        if name not in names():
            told = advice(name, names(), "`diffgeo help figures`")
            raise UsageError(f"figures={name}: there is no such figure{told}")
        if name in plugins.figures():
            figure(name)
    return asked


def draw(wanted: Sequence[str], view: View) -> Iterator[Path]:
    """Draw the figures that show something into view.folder/figures; the paths, one by one."""
    for name in wanted:
        module = figure(name)
        if module.shows(view):
            path = file_of(view.folder / "figures" / name)
            try:
                with titled(view.title):
                    path = module.draw(path, view) or path
            except DiffgeoError:
                raise
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}{plugins.blame(error)}"
                raise DiffgeoError(f"figures={name} could not be drawn: {wrong}") from error
            yield path
        elif view.experiment.figures is not True:
            print(f"figures={name}: this run has nothing for it to show")
