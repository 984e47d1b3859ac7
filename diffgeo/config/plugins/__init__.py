"""The plugins of a command line: packages of others, whose classes, configs and figures join ours.

    plugins=[mypkg]              on the line: a package that Python finds, or one that lies in the
                                 working directory
    [project.entry-points."diffgeo.plugins"]
    mypkg = "mypkg"              in the pyproject.toml of an installed package: it joins every line

    mypkg/conf/GROUP/NAME.yaml   a choice, GROUP=NAME
    mypkg/figures/NAME.py        a figure, figures=[NAME]
    mypkg/...                    the public classes that a `_target_` of a config may name

Nothing else admits a package: no run folder, no config directory. Admitted, a package is looked at
and not imported; that happens where a config names one of its classes. This module imports neither
Hydra nor torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from diffgeo.config.plugins.package import (
    Plugin,
    beside,
    check,
    conf_dir,
    installed,
    named,
    nowhere,
    place,
    taken_by_us,
)
from diffgeo.errors import UsageError

NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)  # of a package

_admitted: tuple[Plugin, ...] = ()


# what is there


def conf_folders() -> tuple[Path, ...]:
    """Every config folder: ours first, then those of the admitted plugins."""
    return conf_dir(), *(plugin.conf for plugin in _admitted if plugin.conf)


def choices(group: str) -> list[str]:
    """The choices of a group, ours and those of the plugins."""
    return sorted(
        path.stem for folder in conf_folders() for path in (folder / group).glob("*.yaml")
    )


def find(config: str) -> Path | None:
    """The file of a config by its name, "sampler/heun" or "train"; None where there is none."""
    for folder in conf_folders():
        if (folder / f"{config}.yaml").is_file():
            return folder / f"{config}.yaml"
    return None


def admitted() -> tuple[Plugin, ...]:
    """The plugins of this command line."""
    return _admitted


def owner(dotted: str) -> Plugin | None:
    """The admitted plugin that a dotted name belongs to; None where there is none."""
    return next((plugin for plugin in _admitted if plugin.owns(dotted)), None)


def figures() -> dict[str, Plugin]:
    """Whose each figure of a plugin is."""
    return {name: plugin for plugin in _admitted for name in plugin.figures()}


def figure(plugin: Plugin, name: str) -> ModuleType:
    """The module of a plugin's figure. Raises UsageError where it cannot be imported, or has no
    `shows` or no `draw`."""
    try:
        module = importlib.import_module(f"{plugin.name}.figures.{name}")
    except Exception as error:
        raise not_imported(f"figures={name}", plugin, error) from error
    for function in ("shows", "draw"):
        if not callable(vars(module).get(function)):
            raise UsageError(
                f"figures={name} of the plugin {plugin.name} has no {function}(): a figure has "
                "shows(view) and draw(path, view)"
            )
    return module


def blame(error: BaseException) -> str:
    """Where in a plugin an error arose, " (in the plugin mypkg: FILE, line 3)"; "" for none."""
    for plugin in _admitted:
        if found := place(plugin.package, error):
            return f" (in the plugin {plugin.name}: {found})"
    return ""


def not_imported(what: str, plugin: Plugin, error: Exception) -> UsageError:
    """What to say of a plugin whose module ends in an error when it is imported."""
    told = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    found = place(plugin.package, error)
    return UsageError(
        f"{what}: the plugin {plugin.name} cannot be imported: {type(error).__name__}: {told}"
        + (f" ({found})" if found else "")
    )


def check_import(key: str, target: str) -> None:
    """Raise UsageError where a module of a plugin, on the way to `target`, cannot be imported: with
    its own error, and the line of the plugin that it comes from."""
    plugin = owner(target)
    if plugin is None:
        return
    name = ""
    for part in target.split(".")[:-1]:
        name = f"{name}.{part}" if name else part
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:  # not there: what follows is a class, or a mistake of the config
                return
            raise not_imported(f"{key}={target}", plugin, error) from error
        except Exception as error:
            raise not_imported(f"{key}={target}", plugin, error) from error


# who is admitted


def admit(names: Iterable[str] = ()) -> tuple[Plugin, ...]:
    """Admit the packages that the line names, and those that are installed with an entry point; the
    plugins from now on. Raises UsageError where one is none, or has a name of ours or of another
    plugin."""
    global _admitted
    _admitted = ()
    nowhere()
    found = {plugin.name: plugin for plugin in installed()}
    for name in names:
        if name not in found:
            found[name] = named(name)
        if other := found[name].another_here():
            print(
                f"note: plugins=[{name}] is {found[name].package}, which Python finds before "
                f"{other}",
                file=sys.stderr,
            )
    taken = taken_by_us()
    for plugin in found.values():
        check(plugin, taken)
    _admitted = tuple(found[name] for name in sorted(found))
    return _admitted


def readmit(plugins: Sequence[Plugin]) -> None:
    """Admit in a launcher's worker what the process that began it had admitted."""
    global _admitted
    _admitted = tuple(plugins)
    for plugin in plugins:
        if importlib.util.find_spec(plugin.name) is None:
            beside(plugin.name, plugin.package.parent)


def check_config(names: Sequence[str] | None) -> None:
    """Raise UsageError where the `plugins` of a config are others than those that are admitted: an
    experiment or a config directory has set them."""
    for name in names or ():
        if name not in [plugin.name for plugin in _admitted]:
            raise UsageError(f"plugins={name} stands in a config: write plugins=[{name}] beside it")


def typed(line: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names in the `plugins=` of a line, and the rest of the line. Raises UsageError on what
    names no packages, and where it stands twice."""
    words = [word for word in line if re.match(r"[+~]*plugins(=|$)", word)]
    rest = [word for word in line if word not in words]
    if not words:
        return [], rest
    if len(words) > 1:
        raise UsageError(f"plugins= stands {len(words)} times: write one list, plugins=[one,two]")
    value = words[0].partition("=")[2].strip("'\" ")
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    names = [name.strip("'\" ") for name in inner.split(",")] if inner else []
    for name in names:
        if not NAME.fullmatch(name) or words[0].startswith("~"):
            raise UsageError(
                f"{words[0]} names no package: write plugins=[mypkg], a package that Python finds "
                "or that lies in this directory"
            )
    if not value:
        raise UsageError("plugins= is empty: write plugins=[mypkg], or leave it out")
    return sorted(set(names)), rest
