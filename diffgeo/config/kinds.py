"""Are the values of a config of the kind that the classes it names annotate? Said before anything
is built, in one line.

    float     a number, whole or not; inf, not nan, and none whose square overflows
    int       a whole number
    bool      true or false
    str       a word
    None      null, where the annotation has it
    a class of diffgeo, a Callable     a node with a `_target_`

True is no number, "abc" is neither, and 2.0 is not a whole number: Python would take each of them
and go on until it is too late to say which option it was. Sequences and every other annotation are
left to their classes.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig

from diffgeo.errors import UsageError

LARGEST = 1e100  # of a number, but for inf: its square is a number too


class Kind(NamedTuple):
    """What the values of an annotation are called, and whether a value is one."""

    word: str
    test: Callable[[Any], bool]


def is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < LARGEST or math.isinf(value)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_node(value: Any) -> bool:
    return isinstance(value, DictConfig) and "_target_" in value


KINDS: dict[type, Kind] = {
    float: Kind("a number", is_number),
    int: Kind("a whole number", is_whole),
    bool: Kind("true or false", lambda value: isinstance(value, bool)),
    str: Kind("a word", lambda value: isinstance(value, str)),
    NoneType: Kind("null", lambda value: value is None),
}
NODE = Kind("a node with a _target_", is_node)


def kind(hint) -> Kind | None:
    """The kind of one member of an annotation; None for what is left alone."""
    built = str(getattr(hint, "__module__", "")).startswith("diffgeo.")
    return NODE if built or get_origin(hint) is Callable else KINDS.get(hint)


def wrong(value, hint) -> str | None:
    """What stands in `hint`, in words, if `value` is nothing of it; None if it is, or if part of
    the annotation is left alone."""
    several = isinstance(hint, UnionType) or get_origin(hint) is Union
    words = []
    for member in get_args(hint) if several else (hint,):
        one = kind(member)
        if one is None or one.test(value):
            return None
        words.append(one.word)
    return " or ".join(words)


def shown(value) -> str:
    """A value as it is typed."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


@lru_cache
def hints(target: Callable) -> dict[str, Any]:
    """The annotated parameters of a class or function; of a class method also those of its class,
    to which it hands the others on."""
    if inspect.ismethod(target):
        return hints(target.__self__) | get_type_hints(target)
    plain_class = inspect.isclass(target) and not is_dataclass(target)
    named = get_type_hints(target.__init__ if plain_class else target)
    return {name: hint for name, hint in named.items() if name in single(target)}


def single(target: Callable) -> set[str]:
    """The parameters that take one argument each, not *args or **options."""
    parameters = inspect.signature(target).parameters.values()
    return {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def located(node: DictConfig) -> Callable:
    log = logging.getLogger("hydra.utils")  # it tells what the error tells again
    held = log.disabled
    log.disabled = True
    try:
        return get_object(node["_target_"])
    except Exception as error:  # Hydra's own, of whatever kind importing ends in
        raise UsageError(
            f"{node._get_full_key('_target_')}={node['_target_']}: there is no such class or "
            "function"
        ) from error
    finally:
        log.disabled = held


def check(node) -> None:
    """Check a config and every node below it that has a `_target_`. Raises UsageError on an unknown
    option, or one of the wrong kind."""
    if is_node(node):
        check_options(node)
    if isinstance(node, DictConfig | ListConfig):
        for child in node.values() if isinstance(node, DictConfig) else node:
            check(child)


def check_options(node: DictConfig) -> None:
    """Check the options of one node against what its target takes."""
    target = located(node)
    parameters = inspect.signature(target).parameters
    hands_on = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    takes = hints(target)
    law = node.get("law")
    if isinstance(law, DictConfig):  # data.make hands its other options on to the law
        takes = hints(located(law)) | takes
    for name in node:
        if name.startswith("_"):
            continue
        if name not in takes and name not in parameters and not hands_on:
            raise UsageError(
                f"there is no option {node._get_full_key(name)}; {target.__name__} takes "
                f"{', '.join(parameters) or 'none'}"
            )
        wanted = wrong(node[name], takes[name]) if name in takes else None
        if wanted:
            raise UsageError(
                f"{node._get_full_key(name)}={shown(node[name])} is not {wanted}; write one for "
                f"{target.__name__}"
            )


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
