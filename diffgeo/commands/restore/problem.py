"""From the options of `diffgeo restore` to what is restored and how; whatever is wrong with them is
said here, before a folder is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diffgeo.analytic.measurement import Measurement
from diffgeo.commands.restore.asked import Asked, asked
from diffgeo.config.build import Experiment, assemble, build, fitted
from diffgeo.config.kinds import plain, shown, whole
from diffgeo.config.limits import part
from diffgeo.config.line import key_of, words_of
from diffgeo.core import ImageSet
from diffgeo.errors import UsageError
from diffgeo.inverse.budget import affordable
from diffgeo.inverse.restoration import Restoration
from diffgeo.run import Job, loaded, shared, take_model
from diffgeo.simulation import Simulation

MOST_DRAWS = 10**6
OF_POINTS = 1000  # draws of a point, where nothing is said


@dataclass(frozen=True)
class Problem:
    """What is restored and how.

    posterior: whether the exact one is put beside. calibration: whether it is asked for.
    """

    experiment: Experiment
    restoration: Restoration
    asked: Asked
    posterior: bool
    calibration: bool

    def drawn_by(self, simulation: Simulation) -> Problem:
        """The problem with another simulation: the same one in the precision asked for."""
        return replace(self, restoration=replace(self.restoration, simulation=simulation))

    def measurement(self, number: int) -> Measurement:
        """That of one image."""
        own = self.restoration
        return Measurement(own.operator_of(number), own.measured(number), own.sigma_n)


def posed(cfg, job: Job) -> Problem:
    """The problem of a config. Fills in what it leaves open: `draws`. Raises UsageError,
    DiffgeoError."""
    take_model(cfg, job.overrides)
    check_options(cfg)
    check_unread(cfg, job.overrides)
    experiment = fitted(assemble(cfg, shared if job.sweep else loaded))
    data = experiment.data
    if cfg.draws is None:
        cfg.draws = 1 if isinstance(data, ImageSet) else OF_POINTS
    draws = whole("draws", cfg.draws, 1, MOST_DRAWS)
    operator = build(part(cfg, "operator"))(shape=tuple(data.shape))
    algorithm = build(part(cfg, "algorithm"))
    found = asked(cfg, data, operator, cfg.sigma_n)
    check_calibration(cfg, found)

    simulation = experiment.simulation
    if cfg.evaluations is not None:
        most = whole("evaluations", cfg.evaluations, 1, MOST_DRAWS)
        grid = experiment.chart.grid
        simulation = affordable(simulation, algorithm, operator, cfg.sigma_n, grid, most)
    restoration = Restoration(
        simulation=simulation,
        algorithm=algorithm,
        operator=operator,
        sigma_n=float(cfg.sigma_n),
        measured=found.measured,
        count=found.count,
        data=data,
        draws=draws,
        batch=cfg.get("batch"),
    )
    # what a rule or a step cannot take it says when it is told
    group = restoration.groups(found.images)[0]
    told = restoration.told(group)
    told.start(range(group.start * draws, group.stop * draws))
    experiment = replace(experiment, simulation=simulation)
    return Problem(experiment, restoration, found, cfg.posterior, cfg.calibration)


def check_options(cfg) -> None:
    """Raise UsageError on options that no class takes."""
    noise = plain("sigma_n", cfg.sigma_n)
    if not 0 <= noise < float("inf"):
        raise UsageError(f"sigma_n={noise:g}: write the deviation of the noise, 0 or above")
    if noise != 0 and noise < 1e-12:
        raise UsageError(f"sigma_n={noise:g} is below rounding: write 0, or more")
    whole("images", cfg.images, 1, MOST_DRAWS)
    for name in ("posterior", "calibration"):
        plain(name, cfg[name], bool)
    if not isinstance(cfg.image, str | int) or isinstance(cfg.image, bool):
        raise UsageError(
            f"image={shown(cfg.image)}: write an index (3), a range (0:20), draw, a picture or a "
            ".npy file"
        )
    if cfg.label == "all":
        raise UsageError(
            "label=all gives the draws of one image different classes; write one class, or null"
        )


def check_unread(cfg, overrides: Sequence[str]) -> None:
    """Raise UsageError where the line gives an option that nothing would look at."""
    typed = set(map(key_of, overrides))
    if cfg.run is not None:  # what its own line gave was for its own command
        typed -= set(map(key_of, words_of(Path(cfg.run) / "overrides.yaml")))
    if "n" in typed:
        raise UsageError(
            f"n={shown(cfg.n)}: what is restored are images=, and of each draws=; write "
            "images=20 draws=4"
        )
    if cfg.y is not None:
        for name in sorted(typed & {"image", "images", "split"}):
            raise UsageError(
                f"{name}={shown(cfg[name])}: with y= the measurement is given, and there is no "
                f"truth; leave out {name}= or y="
            )
    if "images" in typed and shown(cfg.image) != "draw":
        raise UsageError(
            f"images={shown(cfg.images)} is how many are drawn, with image=draw; image="
            f"{shown(cfg.image)} says how many there are: write a range such as image=0:20"
        )


def check_calibration(cfg, found: Asked) -> None:
    """Raise UsageError where there is nothing to calibrate on."""
    if not cfg.calibration:
        return
    if cfg.draws < 2:
        raise UsageError(
            f"draws={cfg.draws}: calibration=true ranks the truth among several draws; write "
            "draws=19"
        )
    if not found.drawn:
        raise UsageError(
            "calibration=true is over truths that are drawn from the law; write image=draw "
            "images=200"
        )
    if len(found.images) < 2:
        raise UsageError("calibration=true takes several truths; write images=200")
