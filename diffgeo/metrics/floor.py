"""Noise floors: what a metric says of the truth itself.

    floor = mean_j m(A_j),     floor_sd = sd_j m(A_j),

A_j n fresh true samples, j = 1..m, each against its own reference draw. The floor is known to its
standard error sd/sqrt(m), and sd itself to a share 1/sqrt(2 (m - 1)), a fourth at m = 8. One more
cloud of the truth is

    beyond floor + t sd sqrt(1 + 1/m) with probability P(T > t),   T Student's, m - 1 degrees

for a metric whose values are normal: up to there (`reach`, with a probability of 1 in 1000) n
samples cannot tell a cloud from the truth. With `noise` = s the clouds are A_j + s z_j: what the
normal noise of a sampler's last step costs by itself.

The numbers depend on the law, the metric, n and the code alone, so they are kept as JSON in
$DIFFGEO_CACHE (else ${XDG_CACHE_HOME:-~/.cache}/diffgeo). A cache that cannot be read is computed
again; one that cannot be written is no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from diffgeo.core import Data, Metric, Run, generator
from diffgeo.errors import DiffgeoError
from diffgeo.store.caches import cache_folder
from diffgeo.store.digest import of_bytes, of_code
from diffgeo.store.files import write_json

# of the package: what the values depend on
CODE = ("core.py", "data/**/*.py", "analytic/**/*.py", "metrics/**/*.py", "assets/**/*.safetensors")

Values = dict[str, list[float]]  # of each pair, by key

RARE = 1e-3  # share of true clouds that a star leaves out
UNTOLD = 8  # pairs of a floor whose file does not tell its error


def reach(sd: float, pairs: int) -> float:
    """How far above the floor of `pairs` clouds of spread `sd` one fresh cloud in 1/RARE lies."""
    from scipy.special import stdtrit

    return float(stdtrit(pairs - 1, 1 - RARE)) * sd * math.sqrt(1 + 1 / pairs)


def pairs_of(sd: float, error: float | None) -> int:
    """The number of clouds, from their spread and the floor's standard error."""
    if not error:  # not told, or of clouds that all have one value
        return UNTOLD
    return max(2, round((sd / error) ** 2))


def nothing(count: float) -> None:
    """What is told of every pair, where nobody looks."""


def draws(
    metric: Metric,
    data: Data,
    n: int,
    pairs: int,
    noise: float,
    done: Callable[[float], None] = nothing,
) -> Values:
    """The metric of `pairs` clouds A_j + noise z_j, by key. Negative seeds, so that no run shares a
    reference draw with a pair. `done` is told of every pair."""
    values: Values = {}
    for j in range(1, pairs + 1):
        g = generator(-j, *b"floor")
        x = data.sample(n, g)
        if noise:
            x = x.double() + noise * torch.randn(x.shape, generator=g, dtype=torch.float64)
        for key, value in metric(Run(x, seed=-j), data).items():
            values.setdefault(key, []).append(value)
        done(1)
    return values


@cache
def code() -> str:
    """A digest of the code that floors depend on, so that a changed law or metric never meets an
    old number."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for pattern in CODE:
        for file in sorted(package.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def held(path: Path, name: dict) -> Values | None:
    """The values that a file keeps under this name; None where it does not, or where they are not
    those that were written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["name"] != name or found["digest"] != digest_of(found["values"]):
            return None
        return {key: [float(v) for v in some] for key, some in found["values"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def digest_of(values: Values) -> str:
    return of_bytes(json.dumps(values, sort_keys=True).encode())


def reference(
    metric: Metric,
    data: Data,
    n: int,
    pairs: int = 8,
    noise: float = 0.0,
    done: Callable[[float], None] = nothing,
) -> dict[str, tuple[float, float]]:
    """(mean, sd with ddof = 1) over `pairs` clouds of n fresh true samples, by key; from the cache
    when it has them.

    noise: standard deviation of normal noise added to the clouds, data units.
    done: told of every pair that is measured, or of all at once.
    """
    name = {
        "law": data.key,
        "metric": [repr(metric), metric.identity],
        "n": n,
        "pairs": pairs,
        "noise": noise,
        "code": code() + of_code(type(metric)),
    }
    digest = hashlib.sha256(json.dumps(name).encode()).hexdigest()[:32]
    path = cache_folder() / "floors" / f"{digest}.json"
    values = held(path, name)
    if values is not None:
        done(pairs)
    else:
        values = draws(metric, data, n, pairs, noise, done)
        with contextlib.suppress(DiffgeoError):
            write_json(path, {"name": name, "values": values, "digest": digest_of(values)})
    floors = {}
    for key, drawn in values.items():
        v = torch.tensor(drawn, dtype=torch.float64)
        floors[key] = float(v.mean()), float(v.std())
    return floors
