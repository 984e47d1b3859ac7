"""Which options there are where: of a command, of what a line chooses, of every choice.

A choice fills a slot: sampler=heun the slot `sampler`, sampler.schedule=vp the slot
`sampler.schedule`, and an option of the choice has the slot before it, sampler.schedule.t_min. So

    chosen      what fills each slot of a line: as Hydra composes it, but for what only Hydra sees
    keys        the options of a line, by their full names
    places      every choice and command that has an option of this name

This module imports neither Hydra nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from diffgeo.config.help.options import Choice, Option, Page, of_choice, of_group, page
from diffgeo.config.plugins import conf_folders, find

NOWHERE = "_global_"  # of a choice that fills no slot of its own, but sets others
LATENTS = "laws"  # what fills no slot: its options are the command's
RECIPE = "experiment"


class Place(NamedTuple):
    """Where an option stands. of: what has it, "sampler=heun", "diffgeo sample" or "every
    command"."""

    of: str
    option: Option


def of_command(command: str) -> Page | None:
    """What the config of a command says; None where it has none."""
    path = find(command.replace(" ", "/"))
    return page(path) if path else None


def base() -> Page:
    """What every command shares."""
    path = find("base")
    assert path is not None
    return page(path)


def chosen(command: str, line: Sequence[str] = ()) -> dict[str, Choice]:
    """What fills each slot of a line. Of two the later one counts: the defaults of every command,
    what the data bring, those of the command, the experiment's, what is typed."""
    own = of_command(command)
    if own is None:
        return {}
    typed = typed_in(line)
    recipe = brought_by(typed[RECIPE]) if RECIPE in typed else {}
    said = {choice.slot: choice for choice in own.choices if choice.group} | recipe | typed
    found = {choice.slot: choice for choice in base().choices}
    for slot in ("model", "data"):  # a model of latents brings its data
        bringing = said.get(slot, found.get(slot))
        if bringing:
            found |= brought_by(bringing)
    found |= said
    inside: dict[str, Choice] = {}
    for choice in found.values():
        inside |= nested(choice, found)
    return inside | found


def typed_in(line: Sequence[str]) -> dict[str, Choice]:
    """The choices that a line types, GROUP=NAME or GROUP@SLOT=NAME, by slot."""
    found = {}
    groups = slots() if line else {}
    for word in line:
        key, equals, name = word.partition("=")
        group, _, slot = key.lstrip("+").partition("@")
        slot = slot or group.replace("/", ".")
        if not equals or slot not in groups:
            continue
        choice = Choice(groups[slot], slot, name, "")
        if exists(choice):
            found[slot] = choice
    return found


def exists(choice: Choice) -> bool:
    """Whether a choice is one: null is none, and a mistyped name."""
    plain = re.fullmatch(r"[\w.-]+", choice.default)
    return plain is not None and find(f"{choice.group}/{choice.default}") is not None


def brought_by(choice: Choice) -> dict[str, Choice]:
    """The slots beyond its own that a choice fills: of a set of images its network."""
    if not exists(choice):
        return {}
    found: dict[str, Choice] = {}
    for other in of_choice(choice.group, choice.default).choices:
        if other.slot == NOWHERE:
            found |= brought_by(other)
        elif choice.group in (LATENTS, RECIPE):
            found[other.slot] = other
        elif other.slot.startswith(f"{NOWHERE}."):
            slot = other.slot.removeprefix(f"{NOWHERE}.")
            found[slot] = other._replace(slot=slot)
    return found


def nested(choice: Choice, taken: dict[str, Choice]) -> dict[str, Choice]:
    """What fills the slots inside a choice, sampler.schedule, unless the line fills them."""
    if not exists(choice) or not is_inside(choice.group):
        return {}
    found: dict[str, Choice] = {}
    for other in of_choice(choice.group, choice.default).choices:
        if other.slot.startswith(NOWHERE):
            continue
        slot = f"{choice.slot}.{other.slot}"
        inner = taken.get(slot, other._replace(slot=slot))
        found[slot] = inner
        found |= nested(inner, taken)
    return found


def slots() -> dict[str, str]:
    """Every slot that there is, and the group of its choices."""
    return slots_in(conf_folders())


@cache
def slots_in(folders: tuple[Path, ...]) -> dict[str, str]:
    """The slots of these config folders, those of this line."""
    pages = [base(), *(own for own in map(of_command, with_config()) if own)]
    found = {choice.slot: choice.group for one in pages for choice in one.choices if choice.group}
    found.pop(NOWHERE, None)
    waiting = list(found.items())
    while waiting:
        slot, group = waiting.pop()
        for one in of_group(group).values():
            for choice in one.choices:
                inner = f"{slot}.{choice.slot}"
                if not choice.slot.startswith(NOWHERE) and inner not in found and is_inside(group):
                    found[inner] = choice.group
                    waiting.append((inner, choice.group))
    return found


def is_inside(group: str) -> bool:
    """Whether the slots that a choice of the group fills lie inside its own."""
    return group not in (LATENTS, RECIPE)


def with_config() -> list[str]:
    """The commands that have a config."""
    from diffgeo.config.catalogue import commands

    return [name for name, command in commands().items() if command.configured]


def keys(command: str, line: Sequence[str] = ()) -> dict[str, Option]:
    """The options of a line by their full names: of the command, of every command, and of what
    fills the slots."""
    own = of_command(command)
    if own is None:
        return {}
    found = {option.key: option for option in base().options}
    fills = chosen(command, line)
    for choice in fills.values():
        found |= dict(of_slot(choice))
    if fills.get("data") and fills["data"].default == "latents":
        found |= {option.key: option for option in latents()}
    for option in own.options:
        before = found.get(option.key)
        found[option.key] = option if option.comment or not before else before
    return found


def latents() -> tuple[Option, ...]:
    """The options that model=latent brings."""
    return of_choice(LATENTS, "latents").options


def of_slot(choice: Choice) -> Iterator[tuple[str, Option]]:
    """The slot itself, and the options of what fills it, by their full names."""
    yield choice.slot, Option(choice.slot, choice.default, choice.comment)
    if exists(choice) and is_inside(choice.group):
        for option in of_choice(choice.group, choice.default).options:
            yield f"{choice.slot}.{option.key}", option


def places(key: str) -> list[Place]:
    """Every command and every choice that has an option of this full name."""
    found = [Place("every command", option) for option in base().options if option.key == key]
    groups = slots()
    if not fills_slot(key, groups):
        found += [Place("model=latent", option) for option in latents() if option.key == key]
    for name in with_config():
        own = of_command(name)
        for option in own.options if own else ():
            if option.key == key and not fills_slot(key, groups):
                found.append(Place(f"diffgeo {name}", option))
    for slot, group in groups.items():
        if not key.startswith(f"{slot}."):
            continue
        for name, one in of_group(group).items():
            for option in one.options:
                if f"{slot}.{option.key}" == key:
                    found.append(Place(f"{slot}={name}", option))
    return found


def fills_slot(key: str, groups: dict[str, str]) -> bool:
    """Whether an option of a command's config lies in a slot, whose choices say what it is."""
    parts = key.split(".")
    return any(".".join(parts[:count]) in groups for count in range(1, len(parts) + 1))
