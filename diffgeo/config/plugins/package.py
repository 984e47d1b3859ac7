"""A package that is a plugin: where Python finds it, what it has, and whether it may be one.

    mypkg/conf/GROUP/NAME.yaml   a choice, GROUP=NAME
    mypkg/figures/NAME.py        a figure, figures=[NAME]

It is looked at and not imported. This module imports neither Hydra nor torch.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import NamedTuple

from diffgeo.errors import UsageError
from diffgeo.store import digest

GROUP = "diffgeo.plugins"  # of entry points
HERE = Path(__file__).resolve().parents[2]
OURS = "diffgeo"


class Plugin(NamedTuple):
    """An admitted package.

    name: as Python imports it.    package: its folder.
    version: of its distribution, else its `__version__`; None where it has neither.
    installed: whether its entry point admitted it, not the line.
    """

    name: str
    package: Path
    version: str | None = None
    installed: bool = False

    @property
    def conf(self) -> Path | None:
        """The folder of its configs; None where it has none."""
        folder = self.package / "conf"
        return folder if folder.is_dir() else None

    @property
    def digest(self) -> str:
        """The sha256 of its files, by their names and their bytes."""
        return digest.of_package(self.package)

    def has(self, config: str) -> bool:
        """Whether it has a config of this name, "sampler/ralston"."""
        return (self.package / "conf" / f"{config}.yaml").is_file()

    def figures(self) -> list[str]:
        """The names of its figures."""
        return modules(self.package / "figures")

    def another_here(self) -> Path | None:
        """Another package of its name that lies in the working directory; None for none."""
        other = Path.cwd() / self.name
        there = (other / "__init__.py").is_file() and other.resolve() != self.package
        return other if there else None

    def owns(self, dotted: str) -> bool:
        """Whether a dotted name is the package or lies inside it."""
        return dotted == self.name or dotted.startswith(f"{self.name}.")


class Beside:
    """Finds packages in the folders in which they lay when the line named them: the working
    directory as a whole is no place to import from, where a stranger may have put a torch.py."""

    def __init__(self):
        self.folder_of: dict[str, str] = {}

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name not in self.folder_of:
            return None
        return PathFinder.find_spec(name, [self.folder_of[name]])


_beside = Beside()


def conf_dir() -> Path:
    """Our config folder: inside the installed package, or beside it in a checkout."""
    return HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"


def modules(folder: Path) -> list[str]:
    """The public modules of a folder."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


# where it is


def installed() -> list[Plugin]:
    """The plugins that installed packages declare. Where none does, the files that would say so are
    all that is read: importlib.metadata is half the start-up of `diffgeo --help`."""
    if not any(declares(folder) for folder in sys.path):
        return []
    from importlib.metadata import entry_points

    found = []
    for point in entry_points(group=GROUP):
        name = point.value.partition(":")[0].strip()
        who = f"the installed plugin {point.name}"
        if point.dist is not None:
            who += f" (of the package {point.dist.name})"
        folder = folder_of(name)
        if folder is None:
            raise UsageError(f"{who} names {name}, which is no package here: install it again")
        version = point.dist.version if point.dist is not None else None
        found.append(Plugin(name, folder, version, installed=True))
    return found


def declares(folder: str) -> bool:
    """Whether a distribution in a folder of sys.path has an entry point of ours."""
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return False
    for name in names:
        if not name.endswith((".dist-info", ".egg-info")):
            continue
        try:
            with open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:
                if f"[{GROUP}]" in file.read():
                    return True
        except (OSError, ValueError):
            continue
    return False


def named(name: str) -> Plugin:
    """The plugin of a package that the line names. Raises UsageError."""
    if name == OURS:
        raise UsageError("plugins=[diffgeo]: that is this program; write the name of your package")
    folder = folder_of(name)
    if folder is None:
        here = Path.cwd()
        if PathFinder.find_spec(name, [str(here)]) is not None:
            beside(name, here)
            folder = folder_of(name)
    if folder is None:
        there = importlib.util.find_spec(name)
        if there is None:
            raise UsageError(
                f"plugins=[{name}]: there is no package {name}, neither installed nor in this "
                "directory: pip install it, or change to the directory that holds it"
            )
        what = "a module" if there.origin else "a folder without __init__.py"
        raise UsageError(
            f"plugins=[{name}]: {there.origin or name} is {what}: a plugin is a package, a folder "
            f"{name} with __init__.py and conf/"
        )
    return Plugin(name, folder, version_of(name, folder))


def beside(name: str, folder: Path) -> None:
    """Let a package be found in a folder."""
    _beside.folder_of[name] = str(folder)
    if _beside not in sys.meta_path:
        sys.meta_path.append(_beside)


def nowhere() -> None:
    """Forget where packages lay: another line begins."""
    _beside.folder_of.clear()


def folder_of(name: str) -> Path | None:
    """The folder of a package that Python finds, which is not imported; None for a module, for a
    folder that is no package, and for what is not there."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # ValueError: a module that says nothing of itself
        return None
    if spec is None or not spec.origin or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))).resolve()


def version_of(name: str, folder: Path) -> str | None:
    """The version of the distribution of this name, else the `__version__` in the package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        text = (folder / "__init__.py").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^__version__ *= *['\"]([^'\"]+)['\"]", text, re.MULTILINE)
        return found[1] if found else None


# what a plugin may have


def taken_by_us() -> dict[str, str]:
    """Every name of ours, "sampler/heun" or "figures/samples": whose it is."""
    names = dict.fromkeys(configs(conf_dir()), OURS)
    figures = modules(HERE / "report" / "figures")
    return names | dict.fromkeys((f"figures/{name}" for name in figures), OURS)


def configs(conf: Path) -> list[str]:
    """The configs of a folder by their names in it, without .yaml."""
    return [p.relative_to(conf).with_suffix("").as_posix() for p in sorted(conf.rglob("*.yaml"))]


def check(plugin: Plugin, taken: dict[str, str]) -> None:
    """Raise UsageError where a plugin adds nothing, takes a name that is another's, has a config
    that cannot be read, or would have a say over Hydra; `taken` then knows its names."""
    names = configs(plugin.conf) if plugin.conf else []
    if not names and not plugin.figures():
        raise UsageError(
            f"the plugin {plugin.name} adds nothing: it has neither configs ({plugin.package}/conf/"
            "GROUP/NAME.yaml) nor figures (figures/NAME.py)"
        )
    for name in [*names, *(f"figures/{name}" for name in plugin.figures())]:
        if name in taken:
            raise UsageError(
                f"the plugin {plugin.name} has {name}, a name that {taken[name]} has too: give it "
                f"another in {plugin.package}"
            )
        taken[name] = f"the plugin {plugin.name}"
    if (plugin.package / "conf" / "hydra").exists():
        raise UsageError(
            f"the plugin {plugin.name} has conf/hydra: a plugin has no say over Hydra; delete it"
        )
    for name in names:
        check_yaml(plugin, plugin.package / "conf" / f"{name}.yaml")


def check_yaml(plugin: Plugin, path: Path) -> None:
    """Raise UsageError where a config of a plugin cannot be read."""
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(
            f"the plugin {plugin.name} has a config that cannot be read, {path}: {where}{reason}"
        ) from error
    if value is not None and not isinstance(value, dict):
        raise UsageError(
            f"the plugin {plugin.name} has a config that is none, {path}: write KEY: VALUE lines"
        )


def place(package: Path, error: BaseException) -> str:
    """Where in a package an error arose, "FILE, line 3": the innermost place; "" where it did not
    pass there."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    found = ""
    trace = error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(package):
            found = f"{file}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found
