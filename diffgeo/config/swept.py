"""What a sweep's line varies, and what its jobs are called after it: model=cem, seed=1.

Imports neither Hydra nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

QUOTED = r"'[^']*'|\"[^\"]*\""
INNERMOST = r"\([^()]*\)|\[[^][]*\]|\{[^{}]*\}"
SWEEPS = r"(choice|range|interval|glob|tag|sort|shuffle)\("


def several(value: str) -> bool:
    """Whether a value stands for several, a,b or range(1,4); not one that is a list, [a,b]."""
    if re.match(SWEEPS, value):
        return True
    bare = re.sub(QUOTED, "", value)
    while (inner := re.sub(INNERMOST, "", bare)) != bare:
        bare = inner
    return "," in bare


def swept(line: Iterable[str]) -> tuple[str, ...]:
    """The keys that a line gives several values, in its order, as a job's overrides name them."""
    pairs = [word.partition("=") for word in line]
    keys = [key.lstrip("+~") for key, equals, value in pairs if equals and several(value)]
    return tuple(dict.fromkeys(keys))


def named(overrides: Iterable[str], keys: Iterable[str]) -> str:
    """What a job of a sweep is called: those of its overrides that the sweep varies."""
    said = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key in set(keys):
            said.append(f"{key.rpartition('@')[2]}={value}")
    return ", ".join(said)
