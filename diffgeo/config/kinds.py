"""Are the values of a config of the kind that the classes it names annotate? Said before anything
is built, in one line.

    float   a number, whole or not; inf, not nan, and none whose square overflows
    int     a whole number        bool   true or false        str   a word
    None    null, where the annotation has it      a class of diffgeo, a Callable     a node with a `_target_`

True is no number, "abc" is neither, and 2.0 is not a whole number: Python would take each of them
and go on until it is too late to say which option it was. Sequences and every other annotation are
left to their classes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig

from diffgeo.errors import UsageError

KINDS: dict[type, tuple[str, Callable[[Any], bool]]] = {
    float: (
        "a number",
        lambda v: (
            isinstance(v, int | float)
            and not isinstance(v, bool)
            and (abs(v) < 1e100 or math.isinf(v))
        ),
    ),
    int: ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    bool: ("true or false", lambda v: isinstance(v, bool)),
    str: ("a word", lambda v: isinstance(v, str)),
    NoneType: ("null", lambda v: v is None),
}
NODE = "a node with a _target_", lambda v: isinstance(v, DictConfig) and "_target_" in v


def kind(hint) -> tuple[str, Callable[[Any], bool]] | None:
    """What a value under one member of an annotation is called, and its test; None for what is left
    alone."""
    built = getattr(hint, "__module__", "").startswith("diffgeo.") or get_origin(hint) is Callable
    return NODE if built else KINDS.get(hint)


def wrong(value, hint) -> str | None:
    """What stands in `hint`, in words, if `value` is nothing of it; None if it is, or if part of
    the annotation is left alone."""
    members = (
        get_args(hint) if isinstance(hint, UnionType) or get_origin(hint) is Union else (hint,)
    )
    kinds = [kind(member) for member in members]
    if None in kinds or any(test(value) for _, test in kinds):
        return None
    return " or ".join(word for word, _ in kinds)


def shown(value) -> str:
    """A value as it is typed."""
    return (
        {None: "null", True: "true", False: "false"}[value]
        if value is None or isinstance(value, bool)
        else str(value)
    )


@lru_cache
def hints(target: Callable) -> dict[str, Any]:
    """The annotated parameters of a class or function; of a class method also those of its class,
    to which it hands the others on."""
    if inspect.ismethod(target):
        return hints(target.__self__) | get_type_hints(target)
    named = get_type_hints(
        target.__init__ if inspect.isclass(target) and not is_dataclass(target) else target
    )
    single = {
        p.name
        for p in inspect.signature(target).parameters.values()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    return {name: hint for name, hint in named.items() if name in single}


def located(node: DictConfig) -> Callable:
    try:
        return get_object(node["_target_"])
    except Exception as error:  # Hydra's own, of whatever kind importing ends in
        raise UsageError(
            f"{node._get_full_key('_target_')}={node['_target_']}: there is no such class or "
            "function"
        ) from error


def check(node) -> None:
    """Check a config and every node below it that has a `_target_`. Raises UsageError on an unknown
    option, or one of the wrong kind."""
    if isinstance(node, DictConfig) and "_target_" in node:
        target = located(node)
        parameters = inspect.signature(target).parameters.values()
        takes = hints(target)
        # data.make hands its other options on to the law
        if isinstance(node.get("law"), DictConfig):
            takes = hints(located(node.law)) | takes
        for name in node:
            if name.startswith("_"):
                continue
            if name not in takes and all(
                p.name != name and p.kind != p.VAR_KEYWORD for p in parameters
            ):
                raise UsageError(
                    f"there is no option {node._get_full_key(name)}; {target.__name__} takes "
                    f"{', '.join(p.name for p in parameters) or 'none'}"
                )
            if name in takes and (wanted := wrong(node[name], takes[name])):
                raise UsageError(
                    f"{node._get_full_key(name)}={shown(node[name])} is not {wanted}; write one "
                    f"for {target.__name__}"
                )
    if isinstance(node, DictConfig | ListConfig):
        for child in node.values() if isinstance(node, DictConfig) else node:
            check(child)


def plain(key: str, value, hint=float):
    """`value`, an option that no class takes, as it is. Raises UsageError unless it is of the kind
    `hint`."""
    if wanted := wrong(value, hint):
        raise UsageError(f"{key}={shown(value)} is not {wanted}; write one")
    return value


def numbers(key: str, value) -> list[float]:
    """One number, or a list of them, as a list of floats. Raises UsageError on anything else, and
    on an empty list."""
    values = [plain(key, v) for v in (value if isinstance(value, ListConfig) else [value])]
    if not values:
        raise UsageError(f"{key}=[] is empty; write a number, or several as [0.02, 0.05]")
    return [float(v) for v in values]
