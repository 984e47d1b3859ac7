"""What `diffgeo help WHAT` prints, with comment, default and kind from the yaml of conf/:

    a command        what its module says, its own options, its groups, the options of every command
    a family         its commands
    a group          its choices, a line each, and what chooses among them
    GROUP=CHOICE     what it is, its options, and what it chooses in its turn
    an option        what it is, of which choices and commands, its kind, its defaults, its choices
    a choice         of whichever groups it is

The kinds come from the annotations of classes (`config.help.annotated`), which imports torch;
nothing else here does.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from diffgeo.config.catalogue import Command, commands, families
from diffgeo.config.drawings import PREFIX, as_node
from diffgeo.config.help import keys, screen
from diffgeo.config.help.keys import Place, places, slots
from diffgeo.config.help.options import Choice, Option, Page, of_choice
from diffgeo.config.help.overview import INDENT, WIDE, family, row, usage
from diffgeo.config.nearest import did_you_mean, nearest
from diffgeo.config.plugins import choices, figures
from diffgeo.config.plugins.package import modules
from diffgeo.errors import UsageError

LONGEST = 24  # columns of a default; what is longer is cut
FIGURES = Path(__file__).resolve().parents[2] / "report" / "figures"
NODE = "drawing."  # of the config; typed as figures.format=
MANY = 3  # different options of one name, from which on they are a table


def of(words: Sequence[str]) -> str:
    """The page of what the words name. Raises UsageError where they name nothing."""
    key, equals, value = " ".join(words).strip().removesuffix("=").partition("=")
    name = as_node(key if key in commands() else key.replace("/", "."))
    if not name:
        return usage()
    if equals:
        return of_filled(name, value)
    pages = []
    if name in commands():
        pages.append(of_command(commands()[name]))
    if name in slots():
        pages.append(of_slot(name, slots()[name]))
    if name in families():
        pages.append(family(name))
    if not pages and (found := places(name)):
        pages.append(of_option(name, found))
    if not pages:
        pages += [of_filled(slot, name) for slot in having(name)]
    if not pages:
        raise UsageError(unknown(name))
    return "\n\n".join(pages)


def having(choice: str) -> list[str]:
    """The groups that have a choice of this name, by their first slots."""
    return [slot for slot in slots() if slot == slots()[slot] and choice in choices(slot)]


def unknown(name: str) -> str:
    """What to say of a name that nothing has."""
    words = [command.replace(" ", ".") for command in commands()]
    known = [*words, *slots(), *every_key()]
    near = [
        other.replace(".", " ") if other in words else other
        for other in nearest(name.replace(" ", "."), known)
    ]
    for slot in slots():
        if slot == slots()[slot]:
            near += [f"{slot}={other}" for other in nearest(name, choices(slot), 1)]
    near += [key for key in every_key() if key.endswith(f".{name}")]
    told = f"{did_you_mean(near[:3])} " if near else ""
    return (
        f"there is no command, group, choice or option {name}: {told}`diffgeo help` lists the "
        "commands, `diffgeo help COMMAND` groups and options"
    )


def every_key() -> list[str]:
    """The options of every command and of every choice, by their full names."""
    found = [option.key for option in keys.base().options]
    for command in keys.with_config():
        page = keys.of_command(command)
        found += [option.key for option in page.options if page] if page else []
    for slot, group in slots().items():
        if not keys.is_inside(group):
            continue
        for choice in choices(group):
            found += [f"{slot}.{option.key}" for option in of_choice(group, choice).options]
    return list(dict.fromkeys(found))


def of_command(command: Command) -> str:
    """All that there is to say of a command."""
    lines = [command.help]
    if not command.configured:
        return "\n".join(lines)
    page = keys.of_command(command.name)
    groups = screen.groups_of(command)
    options = page.options if page else ()
    own = [option for option in options if not keys.fills_slot(option.key, slots())]
    if own:
        lines += ["", "its own options", *table(own)]
    lines += screen.with_words(groups)
    shared = [option for option in keys.base().options if is_shared(option, command, own)]
    lines += ["", "options of every command", *table(shared)]
    return "\n".join(lines)


def is_shared(option: Option, command: Command, own: Iterable[Option]) -> bool:
    """Whether an option of every command is one of this command too, and not said already."""
    first = option.key.split(".")[0]
    if first == "hydra":
        return option.key in ("hydra.run.dir", "hydra.sweep.dir")
    if command.alone and first not in screen.SHARED:
        return False
    return option.key not in [said.key for said in own]


def table(options: Iterable[Option], prefix: str = "", kinds: dict[str, str] | None = None):
    """Lines of options: name, default, kind if there are any, comment."""
    rows = []
    for option in options:
        kind = (kinds or {}).get(option.key, "")
        name = as_typed(f"{prefix}{option.key}")
        rows.append((name, shortened(option.default), kind, option.comment))
    if not rows:
        return []
    widths = [max(len(one[column]) for one in rows) for column in range(3)]
    lines = []
    for name, default, kind, comment in rows:
        head = f"{INDENT}{name:<{widths[0]}}  {default:<{widths[1]}}  "
        if widths[2]:
            head += f"{kind:<{widths[2]}}  "
        if WIDE - len(head) < 30:  # no room beside: below
            lines += [head.rstrip(), *row(f"{INDENT * 3}", comment)]
        else:
            lines += row(head, comment)
    return lines


def as_typed(key: str) -> str:
    """The name of an option as it is typed: figures.format of the node drawing."""
    return f"{PREFIX}{key.removeprefix(NODE)}" if key.startswith(NODE) else key


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def of_slot(slot: str, group: str) -> str:
    """The choices of a group, a line each."""
    there = choices(group)
    words = [choice.comment for choice in keys.base().choices if choice.slot == slot]
    about = f": {words[0]}" if words and words[0] else ""
    lines = row(f"{slot}=  ", f"{len(there)} choices{about}")
    lines.append("")
    width = max(map(len, there)) + 2
    for name in there:
        lines.append(f"{INDENT}{name:<{width}}{in_a_line(of_choice(group, name).about, width)}")
    lines.append("")
    others = [other for other in slots() if slots()[other] == group and other != slot]
    if others:
        lines += row("the same choices: ", " ".join(f"{other}=" for other in others))
    lines += row("without it: ", "; ".join(defaults_of(slot)))
    lines += [f"diffgeo help {slot}={there[0]}    the options of one"]
    return "\n".join(lines)


def in_a_line(text: str, width: int) -> str:
    """As much of a text as there is room for behind a name of this width."""
    return textwrap.shorten(text.rstrip("."), WIDE - width - len(INDENT), placeholder=" ...")


def defaults_of(slot: str) -> list[str]:
    """What fills a slot where nothing is typed, and in which commands."""
    by_choice: dict[str, list[str]] = {}
    for name in keys.with_config():
        fills = keys.chosen(name)
        if slot in fills:
            by_choice.setdefault(fills[slot].default, []).append(name)
    if not by_choice:
        return ["nothing, or what fills the slot around it chooses"]
    most = sorted(by_choice, key=lambda choice: -len(by_choice[choice]))
    others = [f"{choice} of {', '.join(by_choice[choice])}" for choice in most[1:]]
    return [f"{slot}={most[0]}", *others]


def of_filled(slot: str, name: str) -> str:
    """One choice, in a slot. Raises UsageError where there is no such slot or choice."""
    group = slots().get(slot, slot if choices(slot) else None)
    if group is None:
        near = nearest(slot, slots())
        told = f": {did_you_mean(near)}" if near else "; `diffgeo help` says which there are"
        raise UsageError(f"there is no group {slot}{told}")
    if name not in choices(group):
        from diffgeo.config.mistakes import no_choice

        raise UsageError(no_choice(slot, name, choices(group)))
    from diffgeo.config.help.annotated import kinds_of

    page = of_choice(group, name)
    lines = row(f"{slot}={name}  ", page.about)
    prefix = f"{slot}." if keys.is_inside(group) else ""
    own = [option for option in page.options if option.key != "law"]
    if own:
        lines += ["", *table(own, prefix, kinds_of(page))]
    if chosen := chosen_by(page, slot):
        lines += ["", *row("it chooses: ", " ".join(chosen))]
    return "\n".join(lines)


def chosen_by(page: Page, slot: str) -> list[str]:
    """What a choice chooses in its turn: inside itself, or in other slots."""
    found = []
    for choice in page.choices:
        if choice.slot == keys.NOWHERE:
            found += chosen_by(of_choice(choice.group, choice.default), keys.NOWHERE)
        else:
            found.append(f"{full_slot(choice, slot)}={choice.default}")
    return list(dict.fromkeys(found))


def full_slot(choice: Choice, slot: str) -> str:
    """The full name of a slot that a choice in `slot` fills."""
    if choice.slot.startswith(f"{keys.NOWHERE}."):
        return choice.slot.removeprefix(f"{keys.NOWHERE}.")
    outside = slot == keys.NOWHERE or not keys.is_inside(slot)
    return choice.slot if outside else f"{slot}.{choice.slot}"


def of_option(key: str, found: list[Place]) -> str:
    """What an option is, wherever there is one of this name: those that say the same together."""
    key = as_typed(key)
    alike: dict[tuple[str, str], list[Place]] = {}
    for place in found:
        alike.setdefault((place.option.comment, kind_at(place)), []).append(place)
    if len(alike) > MANY:
        return "\n".join([f"{key}, by what has it", "", *table(told(place) for place in found)])
    lines = []
    for (comment, kind), same in alike.items():
        lines += [*row(f"{key}  ", comment), ""]
        if kind:
            lines.append(f"{INDENT}kind     {kind}")
        by_default: dict[str, list[str]] = {}
        for place in same:
            by_default.setdefault(place.option.default, []).append(place.of)
        for default, of_these in by_default.items():
            if default:
                lines += row(f"{INDENT}default  {shortened(default)}  ", f"({', '.join(of_these)})")
            else:
                lines += row(f"{INDENT}a node   ", f"({', '.join(of_these)})")
        lines.append("")
    if key == "figures":
        lines += row("by name: ", ", ".join(sorted([*modules(FIGURES), *figures()])))
    inner = [other for other in every_key() if other.startswith(f"{key}.")]
    if inner:
        lines += row("in it: ", ", ".join(inner))
    return "\n".join(lines).rstrip()


def told(place: Place) -> Option:
    """An option under the name of what has it."""
    return place.option._replace(key=place.of)


def kind_at(place: Place) -> str:
    """The kind of an option where it stands."""
    from diffgeo.config.help.annotated import kind_of, kind_of_default

    slot, equals, name = place.of.partition("=")
    if not equals or slot not in slots():
        return kind_of_default(place.option)
    return kind_of(place.option, of_choice(slots()[slot], name))
