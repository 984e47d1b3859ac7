"""The table of a run's values, as a reader looks at it.

    metric           value      exact   floor          sd  last step's noise
    distance/mean ↓  .0018    2.1e-06       0 +- 0      0

the value, with its standard error where it tells one; what the law's exact denoiser gives in the
place of the network (`metrics.twin`); the noise floor with its own error, and the deviation of a
fresh cloud about it; what the last step's noise alone costs. An arrow says which way is better
(`metrics.better`).

A value is starred where it is no farther from its floor than one fresh cloud of the truth in 1000
is. Floor and spread are estimates themselves, of m clouds, so that is no fixed number of sd but
(metrics/floor.py)

    t sd sqrt(1 + 1/m),     t Student's quantile with m - 1 degrees of freedom:

5.1 sd for m = 8, 3.4 for 32, 3.1 for many.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from diffgeo.metrics.better import MORE, NEAR, better, legend, mark
from diffgeo.metrics.floor import RARE, UNTOLD, pairs_of, reach
from diffgeo.metrics.twin import COUNT, EXACT
from diffgeo.tables import aligned

# what follows the key of a value: its floor, the spread of a cloud about it, the floor's own
# standard error, what the last step's noise costs
FLOOR = "_floor"
SPREAD = "_floor_sd"
FLOOR_ERROR = "_floor_se"
NOISE = "_last_step_noise"
# the standard error of a value that is a mean over draws of its own
ERROR = "_se"
# a key that ends so stands beside another one, and so does KEY_exact (`stands_beside`)
SIDES = (FLOOR, SPREAD, FLOOR_ERROR, NOISE, "_sd", "_se")

# more of the samples near the support than of the truth's is no truth either
TWO_SIDED = "distance/below_"


def margin(values: Mapping[str, float], key: str) -> float:
    """How far from its floor values[key] may be and still be starred."""
    return reach(values[key + SPREAD], pairs_beside(values, key))


def pairs_beside(values: Mapping[str, float], key: str) -> int:
    """Of how many pairs the floor of values[key] is."""
    return pairs_of(values[key + SPREAD], values.get(key + FLOOR_ERROR))


def within_floor(values: Mapping[str, float], key: str, own: Mapping[str, str] = {}) -> bool:
    """Is values[key] within its floor, that is, worse by the margin at most? What is to be as the
    law has it may be off by the margin either way.

    own: which way a metric of a plugin is better, by pattern (`metrics.better`).
    """
    if key + FLOOR not in values or key + SPREAD not in values:
        return False
    worse = values[key] - values[key + FLOOR]
    way = better(key, own)
    if way == NEAR or key.startswith(TWO_SIDED):
        worse = abs(worse)
    elif way == MORE:
        worse = -worse
    return worse <= margin(values, key)


def pairs_of_floors(values: Mapping[str, float], keys: Iterable[str]) -> set[int]:
    """Of how many pairs the floors of these values are; none of those without a spread."""
    return {pairs_beside(values, key) for key in keys if values[key + SPREAD] > 0}


def star_line(pairs: set[int]) -> str:
    """The rule of the star in words, for floors of these numbers of pairs."""
    first, *others = sorted(pairs or {UNTOLD})
    reaches = [f"{reach(1.0, first):.2g} sd of {first} pairs"]
    for number in others:
        reaches.append(f"{reach(1.0, number):.2g} of {number}")
    return (
        f"* no worse than 1 in {1 / RARE:.0f} fresh clouds of the truth: within floor + "
        f"{', '.join(reaches)}"
    )


def floor_line(values: Mapping[str, float], keys: Iterable[str]) -> str:
    """What the columns of the floor are; "" where none of these keys has one."""
    if any(key + FLOOR in values for key in keys):
        return "floor: of as many fresh true samples, +- its standard error; sd: of one such cloud"
    return ""


def number(value: float, digits: int) -> str:
    """A distance of 1e-17 is rounding."""
    return f"{0.0 if abs(value) <= 1e-12 else value:.{digits}g}"


def stands_beside(values: Mapping[str, float], key: str) -> bool:
    """Whether a key stands beside another one of the table: its floor, its error, its twin's."""
    return key.endswith((FLOOR, SPREAD, FLOOR_ERROR, NOISE, ERROR)) or is_of_twin(values, key)


def is_of_twin(keys: Container[str], key: str) -> bool:
    """Whether a key is KEY_exact of another one of `keys`, or how many samples those are of."""
    return key == COUNT or (key.endswith(EXACT) and key.removesuffix(EXACT) in keys)


def line(values: Mapping[str, float], key: str, own: Mapping[str, str] = {}) -> list[str]:
    """A row of the table."""
    floor = error = spread = noise = star = exact = ""
    if key + FLOOR in values:
        floor = number(values[key + FLOOR], 3)
        spread = number(values[key + SPREAD], 2)
    if key + FLOOR_ERROR in values:
        error = "+- " + number(values[key + FLOOR_ERROR], 2)
    value = number(values[key], 4)
    if key + ERROR in values:
        value += " +- " + number(values[key + ERROR], 2)
    if key + NOISE in values:
        noise = number(values[key + NOISE], 3)
    if key + EXACT in values:
        exact = number(values[key + EXACT], 4)
    if within_floor(values, key, own):
        star = "*"
    return [key, mark(key, own), value, star, exact, floor, error, spread, noise]


def table(values: Mapping[str, float], own: Mapping[str, str] = {}) -> str:
    """Plain text, one row a metric, and below it what its marks mean.

    own: which way a metric of a plugin is better, by pattern (`metrics.better`).
    """
    header = ["metric", "", "value", "", "exact", "floor", "", "sd", "last step's noise"]
    keys = [key for key in values if not stands_beside(values, key)]
    rows = [line(values, key, own) for key in keys]
    if not rows:
        return "metric  value"
    lines = aligned([header, *rows], left=(0, 1, 3, 6))
    if said := legend(mark(key, own) for key in keys):
        lines.append(said)
    starred = [key for key in keys if within_floor(values, key, own)]
    if starred:
        lines.append(star_line(pairs_of_floors(values, starred)))
    if said := floor_line(values, keys):
        lines.append(said)
    if any(key + EXACT in values for key in keys):
        lines += exact_lines(values)
    return "\n".join(lines)


def exact_lines(values: Mapping[str, float]) -> list[str]:
    """What the column of the exact denoiser is."""
    said = ["exact: by the law's exact denoiser, with the same sampler, levels and noise"]
    if COUNT in values:
        said.append(
            f"       of the first {values[COUNT]:g} samples, where their number does not matter; "
            "metrics.exact=true: of all"
        )
    return said
