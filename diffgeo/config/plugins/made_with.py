"""What a run was made with: which plugins, and whether they are here and are the same.

    config.yaml        # plugin mypkg 1.0, sha256 ...     what the run began with
                       plugins: [mypkg]                   what it needs to be read back
    provenance.json    "plugins": {"mypkg": {"version": "1.0", "digest": ...}}

A folder names its plugins and admits none: whoever reads it back names them on the line. This
module imports neither Hydra nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from diffgeo.config.plugins import NAME, admitted, owner, typed
from diffgeo.config.plugins.package import Plugin
from diffgeo.config.strangers import read_yaml
from diffgeo.errors import DiffgeoError, UsageError

Record = dict[str, str | None]  # the version of a plugin and its digest
QUOTES = "'\""
MOST = 100  # plugins that a config.yaml names in its first lines


def records(config: Mapping, overrides: Sequence[str]) -> dict[str, Record]:
    """Version and digest of each plugin that a run is made with, by name."""
    found = {}
    for plugin in used(config, overrides):
        found[plugin.name] = {"version": plugin.version, "digest": plugin.digest}
    return found


def used(config: Mapping, overrides: Sequence[str]) -> list[Plugin]:
    """The plugins that a run is made with: those that the line names, and the installed ones that
    have a class of its config, a config that the line chose, or a figure."""
    figures = config.get("figures")
    asked = set(figures) if isinstance(figures, list) else set()
    built = list(targets(config))
    found = []
    for plugin in admitted():
        has_class = any(plugin.owns(name) for name in built)
        has_choice = any(plugin.has(choice) for choice in map(choice_of, overrides))
        if not plugin.installed or has_class or has_choice or asked & set(plugin.figures()):
            found.append(plugin)
    return found


def choice_of(override: str) -> str:
    """The config that an override would choose, "sampler/ralston" of sampler=ralston."""
    key, _, value = override.lstrip("+").partition("=")
    return f"{key.partition('@')[0]}/{value.strip(QUOTES)}"


def targets(node: object) -> Iterator[str]:
    """Every `_target_` of a plain config."""
    if isinstance(node, Mapping):
        yield from [str(value) for key, value in node.items() if key == "_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from targets(child)


def check_made_with(folder: Path, names: object) -> None:
    """Raise UsageError where a run folder was made with plugins (`names`, as its config has them)
    that are not admitted; DiffgeoError where they are no names."""
    asked = names or []
    if not isinstance(asked, list) or not all(NAME.fullmatch(str(name)) for name in asked):
        raise DiffgeoError(f"{folder}/config.yaml is damaged: its plugins are no names of packages")
    missing = [name for name in asked if owner(name) is None]
    if missing:
        several = "s" if len(missing) > 1 else ""
        them = "these packages" if several else "that package"
        typed_too = [plugin.name for plugin in admitted() if not plugin.installed]
        every = ",".join(sorted({*missing, *typed_too}))
        raise UsageError(
            f"{folder} was made with the plugin{several} {', '.join(missing)}: write "
            f"plugins=[{every}] beside it, if you trust {them}"
        )


def check_replayed(config: Path, words: Sequence[str]) -> None:
    """`check_made_with` of a run folder's overrides, and of its config.yaml, which is read where it
    names a plugin."""
    check_made_with(config.parent, typed(words)[0])
    text = config.read_text(encoding="utf-8", errors="replace")
    if re.search(r"^['\"]?plugins['\"]?\s*:(?! *\[\] *$)", text, re.MULTILINE):
        found = read_yaml(config)
        check_made_with(config.parent, found.get("plugins") if isinstance(found, dict) else None)


def comment(plugins: Mapping[str, Record]) -> str:
    """The lines of a config.yaml that say with which plugins a run began."""
    lines = []
    for name, plugin in plugins.items():
        version = plugin["version"] or "without a version"
        lines.append(f"# plugin {name} {version}, sha256 {plugin['digest']}\n")
    return "".join(lines)


def changed_since(config: Path, plugins: Mapping[str, Record]) -> list[str]:
    """Which of some plugins are not what a run folder's config.yaml says that it was begun with."""
    if not config.is_file():
        return []
    with config.open(encoding="utf-8", errors="replace") as file:
        first = [line.split() for line in islice(file, 1 + MOST)]
    said = {words[2]: words[-1] for words in first if words[:2] == ["#", "plugin"] and words[2:]}
    return [name for name, now in plugins.items() if said.get(name, now["digest"]) != now["digest"]]
