"""What is read from a run folder, or from a config directory, and may be somebody else's: data,
never code, and never more of it than a folder of ours holds.

    a YAML file      small, no aliases (nine lines of them hold a billion words), plain YAML tags
    overrides.yaml   group choices and plain values alone: no _target_, no ~, no {...}, no flag, no
                     option of Hydra's, no resolver
    config.yaml      its resolvers stand for themselves: ${oc.env:X}, followed, would write the
                     reader's own secret into a new folder
    --config-dir     neither: what Hydra itself would build (hydra: callbacks, launchers, logging)
                     and resolvers are typed on the line or nowhere

This module imports neither Hydra nor torch when it is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diffgeo.errors import DiffgeoError, UsageError

MOST = 1 << 18  # bytes of a YAML file; ours have some thousands
DEEPEST = 32  # nodes inside nodes; ours have five
# ${name:...}: a function of OmegaConf's; ${key} alone is a value of the same config
RESOLVER = re.compile(r"\$\{[^}]*:")


def read_yaml(path: Path) -> Any:
    """The plain value of a YAML file. Raises DiffgeoError where it is not there, is damaged, or is
    not of the kind that is written here: too large, too deep, with aliases, with tags."""
    import yaml

    try:
        size = path.stat().st_size
        if not path.is_file() or size > MOST:
            raise DiffgeoError(f"{path} is no config of ours: it has {size} bytes, at most {MOST}")
        text = path.read_text(encoding="utf-8")
        check_shape(path, text)
        return yaml.safe_load(text)
    except FileNotFoundError as error:
        raise DiffgeoError(f"there is no {path}") from error
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DiffgeoError(f"{path} is damaged: {reason}") from error


def check_shape(path: Path, text: str) -> None:
    """Raise DiffgeoError where a YAML text has aliases or is too deep: told by its events, of which
    there are no more than characters, before anything is built of them."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise DiffgeoError(f"{path} has aliases (*{event.anchor}): write each value out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise DiffgeoError(f"{path} is no config of ours: it is more than {DEEPEST} deep")


def words_of(path: Path) -> list[str]:
    """The overrides in an overrides.yaml. Raises DiffgeoError unless it is a list of words."""
    found = read_yaml(path)
    words = [] if found is None else found
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DiffgeoError(f"{path} is damaged: it is no list of overrides")
    return words


def check_replayed(path: Path, words: Sequence[str]) -> None:
    """Raise UsageError at the first of a folder's overrides that does more than to choose a group
    or to set a plain value. It is read by Hydra's own parser: what is judged is what Hydra does."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for word in words:
        try:
            override = parser.parse_overrides([word])[0]
        except HydraException:
            reason = "is no override"
        else:
            reason = beyond_plain(override)
        if reason:
            shown = word if len(word) <= 80 else word[:77] + "..."
            raise UsageError(
                f"{path}: {shown!r} {reason}, and a folder may only choose groups and set plain "
                "values: write what you want of it on this line, or delete it there"
            )


def check_kind(folder: str, recorded: Iterable[str], known: set[str]) -> None:
    """Raise UsageError where a run was made with an option that this command does not have, as the
    runs of some commands are; `recorded` are the keys of its line."""
    for key in recorded:
        first = re.split(r"[./@]", key)[0]
        if first not in known and first != "hydra":
            raise UsageError(
                f"run={folder} was made with {first}=, which this command does not have: write the "
                "folder of a diffgeo train or diffgeo sample"
            )


def beyond_plain(override) -> str | None:
    """What a parsed override does beyond a choice or a plain value, in words; None for a plain
    one."""
    names = re.split(r"[./@:]", f"{override.key_or_group}@{override.package or ''}")
    if override.is_delete():
        return "deletes"
    if override.is_sweep_override():
        return "sweeps"
    if any(name.startswith("_") for name in names):
        return "names what is to be built"
    if "hydra" in names:
        return "is an option of Hydra's"
    return beyond_value(override.value())


def beyond_value(value: Any) -> str | None:
    """What a value is beyond a number, a word or a list of them, in words; None for a plain one."""
    if isinstance(value, dict):
        return "is a dictionary"
    if isinstance(value, list):
        return next(filter(None, map(beyond_value, value)), None)
    text = str(getattr(value, "text", value))  # a quoted string of Hydra's
    if RESOLVER.search(text):
        return "asks a resolver"
    return None


def check_resolvers(path: Path, value: Any) -> None:
    """Raise UsageError where a plain value holds a resolver."""
    for text in texts(value):
        if RESOLVER.search(text):
            raise UsageError(
                f"{path} holds the resolver {text!r}, which is not followed from a file: write the "
                "option on this line"
            )


def unfollowed(value: Any) -> Any:
    """A plain value in which every word that asks a resolver stands for itself: OmegaConf takes
    ${ with an odd number of backslashes before it for text."""
    if isinstance(value, dict):
        return {key: unfollowed(child) for key, child in value.items()}
    if isinstance(value, list):
        return [unfollowed(child) for child in value]
    if isinstance(value, str) and RESOLVER.search(value):
        return re.sub(r"(\\*)\$\{", lambda found: odd(found[1]) + "${", value)
    return value


def odd(backslashes: str) -> str:
    """As many backslashes, or one more where their number is even."""
    return backslashes if len(backslashes) % 2 else backslashes + "\\"


def texts(value: Any) -> Iterator[str]:
    """Every word in a plain value, keys included."""
    if isinstance(value, str):
        yield value
    if isinstance(value, dict):
        for key, child in value.items():
            yield str(key)
            yield from texts(child)
    if isinstance(value, list):
        for child in value:
            yield from texts(child)


def check_directory(folder: Path) -> None:
    """Raise UsageError, or DiffgeoError, where a config directory that the line names would have
    Hydra build, run or resolve anything: it instantiates hydra.callbacks, launchers and logging
    itself, before a command begins."""
    if (folder / "hydra").exists():
        raise UsageError(f"{folder}/hydra: a config directory has no say over Hydra: delete it")
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        value = read_yaml(path)
        check_resolvers(path, value)
        header = re.search(r"^\s*#\s*@package\s+(\S+)", path.read_text("utf-8"), re.MULTILINE)
        said = [header[1]] if header else []
        if isinstance(value, dict):
            said += [str(key) for key in value]
            said += texts(value.get("defaults", []))
        if any("hydra" in word for word in said):
            raise UsageError(
                f"{path} sets an option of Hydra's, which a config directory may not: write it on "
                "the line"
            )
