"""`algorithms=`, `operator=`, `y=` and `sigma_n=` of a command that runs several restoration
algorithms on one measurement."""

from __future__ import annotations

import math
from dataclasses import replace

from diffgeo.analytic.measurement import Measurement
from diffgeo.config.build import Experiment, build
from diffgeo.config.kinds import choices, plain
from diffgeo.config.limits import part
from diffgeo.config.measured import table
from diffgeo.config.named import algorithm, algorithm_options, names
from diffgeo.errors import UsageError
from diffgeo.inverse.condition import Measured
from diffgeo.simulation import Simulation


def measurement_of(cfg, experiment: Experiment) -> Measurement:
    """The one measurement. Raises UsageError where it has another shape, or no noise."""
    operator = build(part(cfg, "operator"))(shape=tuple(experiment.data.shape))
    y = table(cfg.y)
    if y.numel() != math.prod(operator.measured):
        raise UsageError(
            f"y= has {y.numel()} numbers, and operator= measures {list(operator.measured)}: write "
            "one y of that shape"
        )
    sigma_n = plain("sigma_n", cfg.sigma_n)
    if not 0 < sigma_n < math.inf:
        raise UsageError(
            f"sigma_n={sigma_n:g}: the data is held against data that is worth nothing, which "
            "needs noise; write a deviation above 0"
        )
    return Measurement(operator, y.double().view(1, *operator.measured), float(sigma_n))


def simulations_of(cfg, experiment: Experiment, told: Measurement) -> dict[str, Simulation]:
    """A simulation an algorithm by its name, all from the same noise. Raises UsageError."""
    asked = choices("algorithms", cfg.algorithms, names("algorithm"))
    if not asked:
        raise UsageError("algorithms=[] asks for none: write some, as algorithms=[diffpir,dps_yt]")
    options = algorithm_options(cfg.options)
    simulations = {}
    for name in asked:
        condition = Measured(
            told,
            algorithm(name, options.get(name, {})),
            experiment.data,
            draws=experiment.numbers.stop,
            inner=experiment.simulation.condition,
        )
        simulations[name] = replace(experiment.simulation, condition=condition)
    return simulations
