"""What the yaml files of conf/ say of their options: the one source of `--help`, of `diffgeo help`,
of the reference pages and of the names that a mistyped key is near to.

    # What this file chooses.                                     about
    defaults:
      - /schedule@schedule: plane       # why                     choices: a group, a slot, a choice
    _target_: diffgeo.sampler.IPNDM                               targets: the class of each node
    points: 4                   # slopes that are interpolated    options: key, default, comment

A file may take another of its folder for its beginning (`defaults: [unet]`): of_choice adds what
stands there, and what an option of the file itself does not say in a comment, that one says.

This module imports neither Hydra nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from diffgeo.config.plugins import choices, conf_folders, find
from diffgeo.errors import DiffgeoError

NAMES_A_GROUP = re.compile(r"(?:override )?(?P<root>/?)(?P<group>[\w/]+)(?:@(?P<slot>[\w.]+))?$")
# keys of a file of @package _global_ that are Hydra's own business
OF_HYDRA = ("hydra", "hydra/job_logging", "hydra/hydra_logging")


class Option(NamedTuple):
    """key: from the top of its file, with dots. default: as it is written; "" of a node, whose
    options follow. comment: the words behind it, or ""."""

    key: str
    default: str
    comment: str


class Choice(NamedTuple):
    """An entry of a defaults list: which choice of a group fills which slot, "" for the file's own
    beginning. default: null where nothing does."""

    group: str
    slot: str
    default: str
    comment: str


class Page(NamedTuple):
    """What one yaml file says. targets: the class that each node names, "" for the file itself."""

    path: Path
    about: str
    options: tuple[Option, ...]
    choices: tuple[Choice, ...]
    targets: dict[str, str]


def of_file(path: Path) -> tuple[Option, ...]:
    """The options of one yaml file, in its order. Raises DiffgeoError where it is no yaml."""
    return page(path).options


def of_group(group: str) -> dict[str, Page]:
    """The choices of a group by name: what each says, with what it takes from others."""
    return {name: of_choice(group, name) for name in choices(group)}


def of_choice(group: str, name: str) -> Page:
    """What a choice says, with the options and comments of the choices of its own group that it
    begins with. Raises DiffgeoError where there is none, or where it is no yaml."""
    path = find(f"{group}/{name}")
    if path is None:
        raise DiffgeoError(f"there is no {group}={name}")
    return whole(group, path)


@cache
def whole(group: str, path: Path) -> Page:
    """What the file of a choice says, and those that it begins with."""
    own = page(path)
    options: dict[str, Option] = {}
    targets: dict[str, str] = {}
    chosen: list[Choice] = []
    for choice in own.choices:
        if choice.group:
            continue
        base = of_choice(group, choice.default)
        options |= {option.key: option for option in base.options}
        targets |= base.targets
        chosen += base.choices
    for option in own.options:
        before = options.get(option.key)
        if before and not option.comment:
            option = option._replace(comment=before.comment)
        options[option.key] = option
    chosen += [choice for choice in own.choices if choice.group]
    return Page(path, own.about, tuple(options.values()), tuple(chosen), targets | own.targets)


@cache
def page(path: Path) -> Page:
    """What one yaml file says. Raises DiffgeoError where it is no yaml, or holds no options."""
    import yaml

    text = path.read_text(encoding="utf-8")
    try:
        root = yaml.compose(text, Loader=loader())
    except yaml.YAMLError as error:
        raise DiffgeoError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    about, lines = heading(text), text.splitlines()
    options: list[Option] = []
    chosen: list[Choice] = []
    targets: dict[str, str] = {}
    if root is None:
        return Page(path, about, (), (), targets)
    if not isinstance(root, yaml.MappingNode):
        raise DiffgeoError(f"{path} is no config: write options, KEY: VALUE")
    for key, value in entries(root):
        if key == "defaults":
            chosen = list(choices_in(value, lines, group_of(path)))
        elif key.rpartition(".")[2] == "_target_":
            targets[key.rpartition(".")[0]] = value.value
        elif not any(part.startswith("_") for part in key.split(".")):
            options.append(Option(key, written(value, text), comment_of(value, lines)))
    return Page(path, about, tuple(options), tuple(chosen), targets)


def loader():
    """The parser that is quickest here: libyaml's takes a twentieth of the other's time."""
    import yaml

    try:
        return yaml.CSafeLoader
    except AttributeError:  # a yaml without libyaml
        return yaml.SafeLoader


def group_of(path: Path) -> str:
    """The group that a config file is a choice of; "" for one of a command, or of no folder of
    ours or of a plugin."""
    for folder in conf_folders():
        if path.is_relative_to(folder):
            group = path.relative_to(folder).parent.as_posix()
            return "" if group == "." else group
    return ""


def heading(text: str) -> str:
    """The comment that a file begins with, up to an empty one, in one line, without the @package of
    Hydra's."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#") or line.strip() == "#":
            break
        words = line.lstrip("# ").rstrip()
        if not words.startswith("@package"):
            lines.append(words)
    return " ".join(lines)


def entries(node, prefix: str = "") -> Iterator[tuple]:
    """The keys of a mapping with dots, and the node of each: a node before what is in it. A list,
    and a node that is written in braces, is one value."""
    import yaml

    for key, value in node.value:
        name = f"{prefix}{key.value}"
        yield name, value
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from entries(value, f"{name}.")


def written(value, text: str) -> str:
    """A value as it stands in the file; "" for a node whose options stand below it."""
    import yaml

    if isinstance(value, yaml.MappingNode) and not value.flow_style:
        return ""
    return " ".join(text[value.start_mark.index : value.end_mark.index].split())


def comment_of(value, lines: list[str]) -> str:
    """The comment behind a value, or behind the key of a node, and the lines that go on with it."""
    import yaml

    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    if block:  # it begins on the line after its key, or after comments
        line = value.start_mark.line - 1
        while line > 0 and lines[line].lstrip().startswith("#"):
            line -= 1
        column = lines[line].find(":") + 1
    else:
        line, column = value.end_mark.line, value.end_mark.column
    found = re.match(r"\s*#\s*(.*)", lines[line][column:])
    if not found:
        return ""
    words = [found[1].strip()]
    margin = lines[line].index("#", column)
    for after in lines[line + 1 :]:
        if after[:margin].strip() or not after[margin:].startswith("#"):
            break
        words.append(after[margin:].lstrip("# ").rstrip())
    return " ".join(words)


def choices_in(value, lines: list[str], own: str) -> Iterator[Choice]:
    """The entries of a defaults list, but for those that are Hydra's own business. A group without
    a / before it lies in the file's `own` one."""
    import yaml

    for item in value.value:
        if isinstance(item, yaml.ScalarNode):
            base = item.value.lstrip("/")
            if base not in ("_self_", "base"):
                yield Choice("", "", base, comment_of(item, lines))
            continue
        key, choice = item.value[0]
        found = NAMES_A_GROUP.match(key.value)
        if not found or found["group"] in OF_HYDRA:
            continue
        slot = found["slot"] or found["group"].replace("/", ".")
        group = found["group"] if found["root"] or not own else f"{own}/{found['group']}"
        yield Choice(group, slot, choice.value, comment_of(choice, lines))
