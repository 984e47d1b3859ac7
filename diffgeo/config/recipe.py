"""conf/ without Hydra: what a name chooses, from Python.

    node("sampler", "heun")          conf/sampler/heun.yaml with what its defaults list brings
    defaults_of(images=False)        the choices of conf/base.yaml: net mlp, sampler heun, ...
    Recipe(...).make("weighting")    the object of a slot, its references to others followed

A slot holds a name or an object in the place of one. Of a defaults list what lies inside the node
is followed: a choice of the same group, `/schedule@schedule: plane`, `predictor: ei`. What a choice
says of other slots (`override /net@_global_.net: unet_8`) is read by `defaults_of`.
Raises UsageError on a group, a name or an option that there is not.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf

from diffgeo.config import plugins
from diffgeo.config.nearest import advice
from diffgeo.core import Sampler, Schedule
from diffgeo.errors import UsageError

BUILDING = ("_target_", "_partial_", "_convert_")
OBJECT = "_object_"  # the key of a node that stands for an object: its value is the object's slot
GIVE = "give one of"
NOTED = re.compile(r"^ *- override /(\w+)(?:@([\w.]+))?: *(\w+)", re.MULTILINE)


@functools.cache
def installed() -> None:
    """Admit, once, the installed packages that declare themselves plugins, as every command does:
    in Python nobody has read a line."""
    if not plugins.admitted():
        plugins.admit()


def names(group: str) -> list[str]:
    """The choices of a group of conf/, sorted: of "sampler" what `sampler=` takes, of "data" the
    laws by name; those of the admitted plugins among them. Raises UsageError where there is no
    such group."""
    installed()
    found = plugins.choices(group)
    if found:
        return found
    groups = {
        path.name for conf in plugins.conf_folders() for path in conf.iterdir() if path.is_dir()
    }
    told = advice(group, sorted(groups), "docs/python.md", GIVE)
    raise UsageError(f"there is no group {group!r}{told}")


def file_of(group: str, name: str) -> Path:
    """The file of a choice. Raises UsageError where there is none."""
    there = names(group)
    file = plugins.find(f"{group}/{name}")
    if file is None or name not in there:
        told = advice(name, there, f"diffgeo.choices({group!r})", GIVE)
        raise UsageError(f"there is no {group} {name!r}{told}")
    return file


def node(group: str, name: str) -> DictConfig:
    """The config of a choice, with what its defaults list brings into it, in the order of that
    list: what comes later wins."""
    own = OmegaConf.load(file_of(group, name))
    assert isinstance(own, DictConfig)
    listed = own.pop("defaults", [])
    entries = list(listed) if "_self_" in listed else [*listed, "_self_"]
    parts = [own if entry == "_self_" else brought(group, entry) for entry in entries]
    composed = OmegaConf.merge(*parts)
    assert isinstance(composed, DictConfig)
    return composed


def brought(group: str, entry: Any) -> DictConfig:
    """What an entry of a defaults list brings into the node that it stands in."""
    if isinstance(entry, str):
        return node(group, entry)
    ((key, name),) = entry.items()
    place, _, slot = str(key).partition("@")
    if place.startswith("override ") or slot == "_global_":
        return OmegaConf.create({})  # of another slot: `defaults_of`
    inner = place.removeprefix("/") if place.startswith("/") else f"{group}/{place}"
    return OmegaConf.create({slot or place: node(inner, name)})


def noted(file: Path) -> dict[str, str]:
    """What a file says of other slots: {slot: choice}."""
    found = {}
    for group, slot, name in NOTED.findall(file.read_text(encoding="utf-8")):
        found[(slot or group).removeprefix("_global_.")] = name
    return found


@functools.cache
def of_points() -> Mapping[str, str]:
    """The defaults list of conf/base.yaml, read once."""
    chosen = {}
    for entry in OmegaConf.load(plugins.conf_dir() / "base.yaml").defaults:
        if entry != "_self_":
            ((group, name),) = entry.items()
            chosen[str(group)] = name
    return chosen


def defaults_of(images: bool, law: str | None = None) -> dict[str, str]:
    """The choice of every slot for a law in R^n, or for images: {slot: choice}.

    law: the name of a law in conf/data, which may choose other things than its kind does.
    """
    chosen = dict(of_points())
    if images:
        chosen |= noted(plugins.conf_dir() / "laws" / "images.yaml")
    if law is not None and law in plugins.choices("data"):
        chosen |= noted(file_of("data", law))
    return chosen


def image_steps() -> int:
    """The sampling steps of an image, unless somebody says otherwise."""
    return OmegaConf.load(plugins.conf_dir() / "laws" / "images.yaml").sampler.steps


class Stepping(NamedTuple):
    """How samples are drawn: the method, the schedule of its levels, and how many steps."""

    sampler: Sampler
    chart: Schedule
    steps: int | None  # None: as many as the schedule has


class Recipe:
    """Slots, each with a name of conf/ or an object; what a slot's config says of other slots, and
    of numbers such as sigma_data, is looked up here.

    chosen: slot -> name or object; `sampler.schedule` is a slot inside one, and stands after it.
    values: what else configs refer to, by name.
    """

    def __init__(self, chosen: Mapping[str, object], **values: object):
        self.objects: dict[str, object] = {}
        self.root = OmegaConf.create(values)
        for slot, choice in chosen.items():
            if isinstance(choice, str):
                held = node(slot.rpartition(".")[2], choice)  # of sampler.schedule a schedule
            else:  # a node that stands for the object
                self.objects[slot] = choice
                held = OmegaConf.create({OBJECT: slot})
            OmegaConf.update(self.root, slot, held, merge=False)

    def make(self, slot: str, options: Mapping[str, object] = {}) -> Any:
        """The object of a slot: as it was given, or built as its config says, with other options
        where there are some. Raises UsageError on an option that the config does not have."""
        config = self.root[slot]
        known = [str(key) for key in config if not str(key).startswith("_")]
        for key in options:
            if key not in known:
                has = advice(key, known, f"diffgeo help {slot}", GIVE) if known else ": it has none"
                raise UsageError(f"{slot} has no option {key!r}{has}")
        return self.made(config, options)

    def stepping(self) -> Stepping:
        """The sampler, its schedule and its steps, which stand beside it in its config."""
        config = OmegaConf.to_container(self.root.sampler, resolve=True)
        assert isinstance(config, dict)
        chart = self.made(OmegaConf.create(config.pop("schedule")))
        steps = config.pop("steps", None)
        return Stepping(self.made(OmegaConf.create(config)), chart, steps)

    def made(self, value: Any, options: Mapping[str, object] = {}) -> Any:
        """What a value of a config stands for: a node with a `_target_` is built, with the nodes
        below it."""
        if isinstance(value, ListConfig):
            return [self.made(one) for one in value]
        if not isinstance(value, DictConfig):
            return value
        if OBJECT in value:
            return self.objects[value[OBJECT]]
        arguments: dict[str, Any] = {}
        for key in value:
            if key not in options and key not in BUILDING:
                arguments[str(key)] = self.made(value[key])
        arguments |= options
        if "_target_" not in value:
            return arguments
        target = located(value["_target_"])
        if value.get("_partial_"):
            return functools.partial(target, **arguments)
        return target(**arguments)


def located(name: str) -> Any:
    """The class, method or function that a `_target_` names. What a package calls by the name of
    one of its modules (`metrics.suite`) wins over the module."""
    found: Any = importlib.import_module(name.partition(".")[0])
    so_far = found.__name__
    for part in name.split(".")[1:]:
        so_far = f"{so_far}.{part}"
        try:
            found = getattr(found, part)
        except AttributeError:
            found = importlib.import_module(so_far)
    return found
