"""What `--help` prints, one screen of 24 lines of 100 columns: what a command does, three examples,
the groups whose choices it takes, its options by name.

    what it does, and the examples       the docstring of its module: the first line, and the lines
                                         in it that are typed as they stand there
    groups and options                   the yaml of its config, with its comments

This module imports neither Hydra nor torch.
"""

from __future__ import annotations

from diffgeo.config.catalogue import Command
from diffgeo.config.help.keys import base, chosen, of_command
from diffgeo.config.help.options import Choice, Option
from diffgeo.config.help.overview import INDENT, row

LINES = 24
EXAMPLES = 3
# what a command that looks at its own options alone takes of those of every command
SHARED = ("plugins", "seed", "figures", "device", "threads")


def of(command: Command) -> str:
    """What `diffgeo COMMAND --help` prints: the fullest of its forms that a screen holds."""
    groups = groups_of(command)
    worded, named = with_words(groups), by_name(groups)
    prose, own, every = paragraph(command), its_own(command), of_every(command)
    lines: list[str] = []
    for part in (
        [*prose, *worded, *own, *every],
        [*worded, *own, *every],
        [*worded, *own],
        [*prose, *named, *own, *every],
        [*named, *own, *every],
    ):
        lines = [*beginning(command), *part, "", *footer(command)]
        if len(lines) <= LINES:
            break
    return "\n".join(lines)


def beginning(command: Command) -> list[str]:
    """What a command is for, what may be typed, and examples."""
    lines = [*row(f"diffgeo {command.name}: ", command.about), "", *usages(command)]
    for example in examples(command)[:EXAMPLES]:
        lines += example
    return lines


def paragraph(command: Command) -> list[str]:
    """The first paragraph in words of a command's docstring, where it ends with a sentence."""
    words = [part for part in command.help.split("\n\n")[1:] if not part.startswith(" ")]
    return ["", *words[0].splitlines()] if words and words[0].endswith(".") else []


def with_words(groups: list[Choice]) -> list[str]:
    """The groups, a line each."""
    lines = ["", "groups, and what fills each unless you choose:"] if groups else []
    for choice in groups:
        lines += row(f"{INDENT}{filled(choice):<22}", about(choice))
    return lines


def by_name(groups: list[Choice]) -> list[str]:
    """The groups in as few lines as they take."""
    named = " ".join(filled(choice) for choice in groups)
    return ["", *row("groups    ", named)] if groups else []


def its_own(command: Command) -> list[str]:
    """The names of a command's own options."""
    own = own_options(command)
    return ["", *row("its own   ", " ".join(f"{option.key}=" for option in own))] if own else []


def of_every(command: Command) -> list[str]:
    """The names of the options of every command that this one looks at too."""
    if not command.configured:
        return []
    own = {option.key for option in own_options(command)} | {"hydra"}
    shared = [option.key for option in base().options if "." not in option.key]
    if command.alone:
        shared = [key for key in shared if key in SHARED]
    return row("options   ", " ".join(f"{key}=" for key in shared if key not in own))


def own_options(command: Command) -> list[Option]:
    """The options that a command has beside those of every command, or with a default of its
    own."""
    page = of_command(command.name)
    filled_by_group = chosen(command.name)
    found = []
    for option in page.options if page else ():
        if "." not in option.key and option.key not in filled_by_group:
            found.append(option)
    return found


def groups_of(command: Command) -> list[Choice]:
    """What fills the slots of a command, data and model first; of a command that looks at its own
    options alone, its own slots."""
    fills = chosen(command.name)
    page = of_command(command.name)
    own = {choice.slot.split(".")[0] for choice in page.choices} if page else set()
    found = []
    for slot in dict.fromkeys(("data", "model", *fills)):
        if slot in fills and "." not in slot and (not command.alone or slot in own):
            found.append(fills[slot])
    return found


def filled(choice: Choice) -> str:
    """A slot and what fills it."""
    return f"{choice.slot}={choice.default}" if choice.default != "null" else f"{choice.slot}="


def about(choice: Choice) -> str:
    """What a slot is for: what the command says of it, else what stands with every command."""
    if choice.comment:
        return choice.comment
    same = [other.comment for other in base().choices if other.slot == choice.slot]
    return same[0] if same else ""


def footer(command: Command) -> list[str]:
    """Where to go on from here."""
    if not command.configured:
        return [f"diffgeo help {command.name}    all that there is to say of it"]
    told = {
        f"diffgeo help {command.name}": "its options with their defaults, and more of it",
        "diffgeo help sampler, sampler=heun": "the choices of a group, the options of one",
        f"diffgeo {command.name} ... --cfg job": "the whole config of a line; -m: a sweep",
    }
    width = max(map(len, told)) + 3
    return [f"{typed:<{width}}{what}" for typed, what in told.items()]


def examples(command: Command) -> list[list[str]]:
    """The lines of a command's docstring that are typed as they stand there, each with those that
    it goes on in."""
    found: list[list[str]] = []
    going_on = False
    for line in command.help.splitlines()[1:]:
        begins = line.startswith(f"    diffgeo {command.name}") and not is_usage(line)
        if begins:
            found.append([])
        if begins or going_on:
            found[-1].append(line[2:])
        going_on = (begins or going_on) and line.endswith("\\")
    return found


def usages(command: Command) -> list[str]:
    """The lines of a command's docstring that say in brackets what may be typed, [OPTION=VALUE]."""
    found: list[str] = []
    going_on = False
    for line in command.help.splitlines()[1:]:
        begins = is_usage(line)
        if begins or going_on:
            found.append(line[2:])
        going_on = (begins or going_on) and line.endswith("\\")
    return [*found, ""] if found else []


def is_usage(line: str) -> bool:
    """Whether a line says what may be typed, and is none that is typed."""
    return line.startswith("    diffgeo ") and (" [" in line or " {" in line)
