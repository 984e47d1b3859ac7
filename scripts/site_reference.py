"""The reference pages of the site: the commands from their docstrings; the options from the
comments of conf/, by `diffgeo.config.help.options`, which `diffgeo help` reads too; the Python
names from what `diffgeo` exports, by mkdocstrings."""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType

import diffgeo
from diffgeo.config import plugins
from diffgeo.config.catalogue import Command, commands
from diffgeo.config.help import options
from diffgeo.config.line import conf_dir

# folders of conf/ that are no groups of choices: configs of commands, published numbers, and what
# data= brings with it
NO_GROUPS = ("theory", "trajectory", "reproduce", "published", "laws")


def groups() -> list[str]:
    """The groups of choices, sampler/corrector among them."""
    found = set()
    for path in conf_dir().rglob("*.yaml"):
        group = path.parent.relative_to(conf_dir()).as_posix()
        if group != "." and group.split("/")[0] not in NO_GROUPS:
            found.add(group)
    return sorted(found)


def place(group: str) -> str:
    return f"reference/{group.replace('/', '_')}.md"


def navigation() -> list:
    """The entries below Reference."""
    of_groups = [{group: place(group)} for group in groups()]
    of_rooms = [{f"diffgeo.{room}": f"reference/python_{room}.md"} for room in rooms()]
    return [
        {"Reference": "reference/index.md"},
        {"Commands": "reference/commands.md"},
        {"Options of every command": "reference/options.md"},
        {"Groups": of_groups},
        {"Reproductions": "reference/reproductions.md"},
        {"Python": [{"diffgeo": "reference/python.md"}, *of_rooms]},
    ]


def pages() -> dict[str, str]:
    """The text of each page by its place."""
    found = {
        "reference/index.md": index(),
        "reference/commands.md": of_commands(),
        "reference/options.md": of_every_command(),
        "reference/reproductions.md": of_reproductions(),
        "reference/python.md": of_python(),
    }
    for group in groups():
        found[place(group)] = of_group(group)
    for room in rooms():
        found[f"reference/python_{room}.md"] = of_room(room)
    return found


# the command line


def index() -> str:
    """What there is to choose."""
    lines = [
        "# Reference",
        "",
        "`diffgeo help WORD` prints what stands here: of a command, a group, a choice "
        "(`data=curve`) or an option (`sampler.gamma`).",
        "",
        "| command | |",
        "|---|---|",
    ]
    for command in commands().values():
        lines.append(
            f"| [`{command.name}`](commands.md#{anchor(command)}) | {plain(command.about)} |"
        )
    lines += ["", "| group | choices |", "|---|---|"]
    for group in groups():
        names = ", ".join(f"`{name}`" for name in plugins.choices(group))
        lines.append(f"| [`{group}`]({place(group).removeprefix('reference/')}) | {names} |")
    return "\n".join(lines) + "\n"


def anchor(command: Command) -> str:
    return f"diffgeo-{command.name.replace(' ', '-')}"


def of_commands() -> str:
    """Every command: its docstring, and the options of its own config."""
    parts = ["# Commands"]
    for command in commands().values():
        parts.append(f"## diffgeo {command.name} {{ #{anchor(command)} }}")
        parts.append(f"```text\n{command.help}\n```")
        file = plugins.find(command.path)
        if command.configured and file:
            parts.append(table(options.of_file(file)))
    return "\n\n".join(part for part in parts if part) + "\n"


def of_every_command() -> str:
    """The options that every command with a config has."""
    parts = ["# Options of every command"]
    parts.append("Those of one command alone stand with [the command](commands.md).")
    parts.append(table(options.of_file(conf_dir() / "base.yaml")))
    return "\n\n".join(parts) + "\n"


def of_group(group: str) -> str:
    """Every choice of a group: what it is, its class, its options."""
    parts = [f"# {group}", f"`{group.replace('/', '.')}=NAME`:"]
    found = options.of_group(group)
    parts.append(", ".join(f"[`{name}`](#{name})" for name in found))
    for name, page in found.items():
        parts.append(f"## {name} {{ #{name} }}")
        parts.append(plain(page.about))
        if target := page.targets.get(""):
            parts.append(f"`{target}`")
        parts.append(table(page.options))
        slots = [slot_line(choice) for choice in page.choices]
        parts.append("\n".join(slots))
    return "\n\n".join(part for part in parts if part) + "\n"


def slot_line(choice: options.Choice) -> str:
    """A slot that is filled by a choice of a group."""
    comment = f": {plain(choice.comment)}" if choice.comment else ""
    name = choice.slot or choice.group
    return f"* `{name}=` a choice of `{choice.group}`, `{choice.default}` here{comment}"


def table(found: tuple[options.Option, ...]) -> str:
    """Options with their defaults and comments; "" where there are none."""
    if not found:
        return ""
    lines = ["| option | default | |", "|---|---|---|"]
    for option in found:
        default = f"`{cell(option.default)}`" if option.default else ""
        lines.append(f"| `{option.key}` | {default} | {plain(option.comment)} |")
    return "\n".join(lines)


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def plain(text: str) -> str:
    """Words of a comment as Markdown that shows them as they are; `code` stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    for number, part in enumerate(parts):
        if not part.startswith("`"):
            part = part.replace("&", "&amp;").replace("<", "&lt;")
            part = re.sub(r"([\\*_\[\]{}])", r"\\\1", part)
        parts[number] = cell(part)
    return "".join(parts)


def of_reproductions() -> str:
    """Every table of conf/reproduce: the command, and what its file says it is after."""
    lines = ["# Reproductions", "", "| command | |", "|---|---|"]
    folder = conf_dir() / "reproduce"
    for path in sorted(folder.rglob("*.yaml")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        about = options.heading(path.read_text(encoding="utf-8"))
        lines.append(f"| `diffgeo reproduce {name}` | {plain(about)} |")
    return "\n".join(lines) + "\n"


# Python


def public(module: ModuleType) -> list[str]:
    return list(getattr(module, "__all__", []))


def rooms() -> list[str]:
    """The modules that `import diffgeo` names, those that list what is public in them."""
    found = []
    for name in public(diffgeo):
        value = getattr(diffgeo, name)
        if isinstance(value, ModuleType):
            found.append(name)
    return found


def of_python() -> str:
    """What `import diffgeo` gives: the names that are no modules, in full."""
    parts = [
        "# diffgeo",
        "What is listed here and on the pages below is public; everything else may change.",
    ]
    for name in public(diffgeo):
        value = getattr(diffgeo, name)
        if not isinstance(value, ModuleType):
            parts.append(entry(value, f"diffgeo.{name}"))
    parts.append("## The rooms")
    parts.append("\n".join(f"* [`diffgeo.{room}`](python_{room}.md)" for room in rooms()))
    return "\n\n".join(parts) + "\n"


def of_room(room: str) -> str:
    """A module and every public name of it."""
    module = importlib.import_module(f"diffgeo.{room}")
    parts = [f"# diffgeo.{room}", f"```text\n{inspect.cleandoc(module.__doc__ or '')}\n```"]
    above = [getattr(diffgeo, name) for name in public(diffgeo)]  # they stand on the first page
    for name in public(module) or defined(module):
        value = getattr(module, name)
        if not isinstance(value, ModuleType) and not any(value is other for other in above):
            parts.append(entry(value, f"diffgeo.{room}.{name}"))
    return "\n\n".join(parts) + "\n"


def defined(module: ModuleType) -> list[str]:
    """The public classes and functions that a module without a list of names defines itself."""
    found = []
    for name, value in vars(module).items():
        mine = getattr(value, "__module__", None) == module.__name__
        if (
            mine
            and not name.startswith("_")
            and (inspect.isclass(value) or inspect.isfunction(value))
        ):
            found.append(name)
    return found


def entry(value, name: str) -> str:
    """mkdocstrings' line for an object, where it is defined; its name alone for a plain value."""
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"::: {value.__module__}.{value.__qualname__}"
    return f"### `{name}`\n\n```text\n{value!r}\n```"
