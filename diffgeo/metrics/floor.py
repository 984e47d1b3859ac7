"""Noise floors: what a metric says of the truth itself.

    floor = mean_j m(A_j),   floor_sd = sd_j m(A_j),   A_j n fresh true samples, j = 1..8, each against its own reference draw

A value at most floor + 4 sd says that n samples cannot tell the cloud from the truth. With `noise`
= s the clouds are A_j + s z_j: what the normal noise of a sampler's last step costs by itself.

The numbers depend on the law, the metric, n and the code alone, so they are kept as JSON in
$DIFFGEO_CACHE (else ${XDG_CACHE_HOME:-~/.cache}/diffgeo). A cache that cannot be read is computed
again; one that cannot be written is no cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import cache
from pathlib import Path

import torch

from diffgeo.core import Data, Metric, Run, generator
from diffgeo.errors import DiffgeoError
from diffgeo.store.files import cache_folder, write_json


def draws(metric: Metric, data: Data, n: int, pairs: int, noise: float) -> dict[str, list[float]]:
    """The metric of `pairs` clouds A_j + noise z_j, by key. Negative seeds, so that no run shares a
    reference draw with a pair."""
    values: dict[str, list[float]] = {}
    for j in range(1, pairs + 1):
        g = generator(-j, *b"floor")
        x = data.sample(n, g)
        if noise:
            x = x.double() + noise * torch.randn(x.shape, generator=g, dtype=torch.float64)
        for key, value in metric(Run(x, seed=-j), data).items():
            values.setdefault(key, []).append(value)
    return values


@cache
def _code() -> str:
    """A digest of the code that floors depend on, so that a changed law or metric never meets an
    old number."""
    root = Path(__file__).parent.parent
    files = sorted(
        file
        for folder, kind in (
            ("data", "*.py"),
            ("analytic", "*.py"),
            ("metrics", "*.py"),
            ("assets", "*.safetensors"),
        )
        for file in (root / folder).rglob(kind)
    )
    return hashlib.sha256(
        b"".join(file.read_bytes() for file in [root / "core.py", *files])
    ).hexdigest()


def reference(
    metric: Metric, data: Data, n: int, pairs: int = 8, noise: float = 0.0
) -> dict[str, tuple[float, float]]:
    """(mean, sd with ddof = 1) over `pairs` clouds of n fresh true samples, by key; from the cache
    when it has them.

    A law without `key` is not cached. A metric that reads a file tells its digest as `identity`.
    noise: standard deviation of normal noise added to the clouds, data units.
    """
    law = getattr(data, "key", None)
    metric_ = [repr(metric), getattr(metric, "identity", None)]
    name = {"law": law, "metric": metric_, "n": n, "pairs": pairs, "noise": noise, "code": _code()}
    path = (
        cache_folder()
        / "floors"
        / (hashlib.sha256(json.dumps(name).encode()).hexdigest()[:32] + ".json")
    )
    try:
        held = json.loads(path.read_text()) if law else {}
        values = (
            {key: [float(v) for v in held["values"][key]] for key in held["values"]}
            if held["name"] == name
            else None
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        values = None
    if values is None:
        values = draws(metric, data, n, pairs, noise)
        if law:
            with contextlib.suppress(DiffgeoError):
                write_json(path, {"name": name, "values": values})
    return {
        key: (
            float(torch.tensor(v, dtype=torch.float64).mean()),
            float(torch.tensor(v, dtype=torch.float64).std()),
        )
        for key, v in values.items()
    }
