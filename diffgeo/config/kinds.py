"""Are the values of a config of the kind that the classes it names annotate? Said before anything
is built, in one line.

    float     a number, whole or not; inf, not nan, and none whose square overflows
    int       a whole number, at most MOST
    bool      true or false
    str       a word
    None      null, where the annotation has it
    Sequence[T], list[T], tuple[T, ...]      a list, each of it of the kind T
    tuple[S, T]                              a list of two
    a class of diffgeo, a Callable     a node with a `_target_`

True is no number, "abc" is neither, and 2.0 is not a whole number: Python would take each of them
and go on until it is too late to say which option it was. A tensor or an array cannot stand in a
config; every other annotation is left to its class.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from diffgeo.config import plugins
from diffgeo.config.nearest import FEW, did_you_mean, nearest
from diffgeo.config.words import MOST_STEPS
from diffgeo.errors import UsageError

LARGEST = 1e100  # of a number, but for inf: its square is a number too
MOST = 10**9  # of whole numbers: nothing here is counted further, and 8 GB hold no more
MADE = (Tensor, np.ndarray)  # by a program, never by a config


class Kind(NamedTuple):
    """What a value of an annotation is called, what several are, and whether a value is one."""

    word: str
    words: str
    test: Callable[[Any], bool]


def is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < LARGEST or math.isinf(value)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST


def is_node(value: Any) -> bool:
    return isinstance(value, DictConfig) and "_target_" in value


KINDS: dict[type, Kind] = {
    float: Kind("a number", "numbers", is_number),
    int: Kind("a whole number", "whole numbers", is_whole),
    bool: Kind("true or false", "true or false", lambda value: isinstance(value, bool)),
    str: Kind("a word", "words", lambda value: isinstance(value, str)),
    NoneType: Kind("null", "null", lambda value: value is None),
}
NODE = Kind("a node with a _target_", "nodes with a _target_", is_node)


def kind(hint) -> Kind | None:
    """The kind of one member of an annotation; None for what is left alone."""
    origin = get_origin(hint)
    if origin in (Sequence, list, tuple):
        return list_of(get_args(hint))
    module = str(getattr(hint, "__module__", ""))
    built = module.startswith("diffgeo.") or plugins.owner(module) is not None
    return NODE if built or origin is Callable else KINDS.get(hint)


def list_of(members: tuple) -> Kind | None:
    """The kind of a list whose members are annotated so: one hint for all of them, alone or before
    `...`, or one for each. None where a member's is left alone."""
    open_ended = len(members) == 1 or members[-1] is ...
    first = kind(members[0])
    if first is None:
        return None
    if open_ended:
        word = f"a list of {first.words}"
        return Kind(word, f"lists of {first.words}", lambda value: is_list(value, members[0]))
    word = f"a list of {len(members)} {first.words}"
    return Kind(word, f"lists of {len(members)} {first.words}", lambda v: is_tuple(v, members))


def is_list(value: Any, hint) -> bool:
    return isinstance(value, ListConfig) and not any(wrong(one, hint) for one in value)


def is_tuple(value: Any, hints: tuple) -> bool:
    if not isinstance(value, ListConfig) or len(value) != len(hints):
        return False
    return not any(wrong(one, hint) for one, hint in zip(value, hints, strict=True))


def wrong(value, hint) -> str | None:
    """What stands in `hint`, in words, if `value` is nothing of it; None if it is, or if part of
    the annotation is left alone."""
    several = isinstance(hint, UnionType) or get_origin(hint) is Union
    words = []
    for member in get_args(hint) if several else (hint,):
        if member in MADE:
            continue
        one = kind(member)
        if one is None or one.test(value):
            return None
        words.append(one.word)
    return " or ".join(words)


def words_of(hint) -> str:
    """What may stand in `hint`, in words; "" where all of it is left to its class."""
    several = isinstance(hint, UnionType) or get_origin(hint) is Union
    words = []
    for member in get_args(hint) if several else (hint,):
        one = None if member in MADE else kind(member)
        if one is not None:
            words.append(one.word)
    return " or ".join(words)


def shown(value) -> str:
    """A value as it is typed."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def refusal(key: str, value, words: str, target: str = "") -> UsageError:
    """What to say where the option `key` is not what `words` say."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MOST:
        return UsageError(f"{key}={value} is too large: write at most {MOST}")
    write = f"write one for {target}" if target else "write one"
    return UsageError(f"{key}={shown(value)} is not {words}; {write}")


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


def others_hint(target: Callable) -> Any:
    """What the other options of a function are to be, **options: Metric | None; None where it does
    not say."""
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind == parameter.VAR_KEYWORD:
            function = target.__init__ if inspect.isclass(target) else target
            return get_type_hints(function).get(parameter.name)
    return None


def located(node: DictConfig) -> Callable:
    log = logging.getLogger("hydra.utils")  # it tells what the error tells again
    held = log.disabled
    log.disabled = True
    try:
        return get_object(node["_target_"])
    except Exception as error:  # Hydra's own, of whatever kind importing ends in
        plugins.check_import(node._get_full_key("_target_"), str(node["_target_"]))
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
    others = others_hint(target)
    law = node.get("law")
    if is_node(law):  # data.make hands its other options on to the law
        takes = hints(located(law)) | takes
        parameters = {**inspect.signature(located(law)).parameters, **parameters}
        hands_on = False
    for name in node:
        if name.startswith("_"):
            continue
        if name not in takes and name not in parameters and not hands_on:
            raise no_option(node, name, target)
        hint = takes.get(name, others)
        wanted = wrong(node[name], hint) if hint is not None else None
        if wanted:
            raise refusal(node._get_full_key(name), node[name], wanted, target.__name__)


def no_option(node: DictConfig, name: str, target: Callable) -> UsageError:
    """What to say where a target does not take an option of its node."""
    told = f"there is no option {node._get_full_key(name)}"
    known = list(inspect.signature(target).parameters)
    if near := nearest(name, known):
        return UsageError(f"{told}: {did_you_mean(node._get_full_key(other) for other in near)}")
    if len(known) > FEW:
        group = node._get_full_key(name).split(".")[0]
        known = [*known[:FEW], f"and {len(known) - FEW} others (`diffgeo help {group}`)"]
    return UsageError(f"{told}; {target.__name__} takes {', '.join(known) or 'none'}")


def plain(key: str, value, hint=float):
    """`value`, an option that no class takes, as it is. Raises UsageError unless it is of the kind
    `hint`."""
    if wanted := wrong(value, hint):
        raise refusal(key, value, wanted)
    return value


def whole(key: str, value, least: int, most: int) -> int:
    """A whole number of a range. Raises UsageError."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UsageError(f"{key}={shown(value)}: write a whole number from {least} to {most}")
    return value


def step_count(key: str, value) -> int:
    """How many steps, or points of a grid. Raises UsageError."""
    return whole(key, value, 1, MOST_STEPS)


def numbers(key: str, value) -> list[float]:
    """One number, or a list of them, as a list of floats. Raises UsageError on anything else, and
    on an empty list."""
    values = [plain(key, v) for v in (value if isinstance(value, ListConfig) else [value])]
    if not values:
        raise UsageError(f"{key}=[] is empty; write a number, or several as [0.02, 0.05]")
    return [float(v) for v in values]


def choices(key: str, value, known: Collection[str]) -> list[str]:
    """One of the words `known`, or a list of them, each once. Raises UsageError on anything else;
    an empty list is one."""
    asked = list(value) if isinstance(value, ListConfig) else [value]
    for word in asked:
        if word not in known:
            near = nearest(str(word), known)
            told = did_you_mean(near) if near else f"write some of {', '.join(known)}"
            raise UsageError(f"{key}={shown(word)}: {told}")
        if asked.count(word) > 1:
            raise UsageError(f"{key} names {word} twice: write it once")
    return asked
