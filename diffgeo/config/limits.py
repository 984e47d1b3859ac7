"""What every config has to say, and how much of it a machine can do: asked before anything is
built."""

from __future__ import annotations

import math

from omegaconf import DictConfig

from diffgeo.config import kinds
from diffgeo.config.mistakes import listing
from diffgeo.config.nearest import advice
from diffgeo.config.plugins import choices
from diffgeo.config.words import HIGHEST
from diffgeo.core import Data, Pictures
from diffgeo.errors import UsageError
from diffgeo.machine import memory
from diffgeo.machine.environment import MOST_THREADS

# whole numbers of every config: the least and the most that each may be
COUNTS = {
    "n": (1, HIGHEST),
    "seed": (0, HIGHEST),
    "threads": (1, MOST_THREADS),
    "first": (0, HIGHEST),
    "batch": (1, HIGHEST),
}
MAY_BE_NULL = ("threads", "batch")
OF_PROMPTS = "prompts"  # where a config has them, n may be null too: one for each
# slots of every config: each holds a node
PARTS = ("data", "model", "net", "schedule", "weighting", "sampler", "metrics")
MOST_OF_NET = 10**6  # of its channels, layers, frequencies: a matrix of two such is 4 TB
COPIES = 3  # of all samples, at the least: as they are drawn, stored and measured


def check_numbers(cfg) -> None:
    """Raise UsageError where a whole number of the config is none, too small or too large, or where
    the unit of the data is no length."""
    for key, (least, most) in COUNTS.items():
        may_be_null = key in MAY_BE_NULL or (key == "n" and OF_PROMPTS in cfg)
        if key not in cfg or (may_be_null and cfg[key] is None):
            continue
        kinds.whole(key, cfg[key], least, most)
    unit = kinds.plain("sigma_data", cfg.get("sigma_data"), float | None)
    if unit is not None and not 0 < unit < math.inf:
        raise UsageError(
            f"sigma_data={unit:g}: write the standard deviation of the data, above 0 and finite, "
            "or null for the law's own"
        )


def check_parts(cfg) -> None:
    """Raise UsageError where a slot of the config holds nothing to build."""
    for key in PARTS:
        part(cfg, key)


def part(cfg, key: str) -> DictConfig:
    """The node in a slot of a config. Raises UsageError where it holds none."""
    node = cfg.get(key)
    if kinds.is_node(node):
        return node
    held = "is not set" if key not in cfg else f"={kinds.shown(node)} builds nothing"
    there = choices(key)
    write = f"write {key}= one of"
    told = advice("", there, listing(key), write) if there else f": leave {key}= out"
    raise UsageError(f"{key}{' ' if key not in cfg else ''}{held}{told}")


def check_finite(data: Data, node: DictConfig) -> None:
    """Raise UsageError where a law is infinitely wide: an option of its node is then infinite."""
    if math.isfinite(data.std):
        return
    numbers = {name: value for name, value in node.items() if kinds.is_number(value)}
    infinite = [f"data.{name}={value:g}" for name, value in numbers.items() if math.isinf(value)]
    raise UsageError(f"{', '.join(infinite) or 'data='}: the law has no deviation: write less")


def check_memory(data: Data, n: int) -> None:
    """Raise UsageError where n points, float64 and all in memory, are more than the machine has;
    images go through files."""
    if isinstance(data, Pictures):
        return
    one = 8 * math.prod(data.shape)
    memory.check_fits(f"n={n}", COPIES * n * one, f"write n={memory.total() // (4 * one)} or less")


def check_net(node: DictConfig) -> None:
    """Raise UsageError where a whole number of a network is out of all bounds."""
    for name, value in node.items():
        if kinds.is_whole(value) and value > MOST_OF_NET:
            raise UsageError(f"net.{name}={value} is too large: write at most {MOST_OF_NET}")


def largest(key: str, node: DictConfig) -> str:
    """The whole number of a node that a lack of memory is most likely about, as it is typed."""
    counts = {name: value for name, value in node.items() if kinds.is_whole(value)}
    if not counts:
        return f"{key}="
    name = max(counts, key=counts.__getitem__)
    return f"{key}.{name}={counts[name]}"
