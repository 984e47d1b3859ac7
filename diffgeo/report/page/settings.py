"""What a run was made with: the command, the config in which it differs from the default, and what
provenance.json says of the machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from diffgeo.config.catalogue import commands, split
from diffgeo.config.defaults import default_config
from diffgeo.config.strangers import read_yaml, words_of
from diffgeo.errors import DiffgeoError
from diffgeo.report.page.files import inside, text_of
from diffgeo.report.page.html import Markup, element, folded, joined
from diffgeo.report.page.tables import ABSENT, facts, table
from diffgeo.run import flat
from diffgeo.store import digest

SECONDS = ("_cpu_s", "_wall_s")


def provenance_of(folder: Path) -> dict:
    """What a finished run says of itself; nothing of one that is not finished. Raises
    DiffgeoError."""
    if not inside(folder, folder / digest.PROVENANCE):
        return {}
    return digest.provenance(folder)


def command_of(folder: Path) -> str:
    """The command that made a run, as it was typed; of one that is not finished what stands in its
    overrides.yaml. Raises DiffgeoError."""
    told = provenance_of(folder).get("command")
    if isinstance(told, str):
        return told
    path = folder / "overrides.yaml"
    return shlex.join(words_of(path)) if inside(folder, path) else ""


def name_of(command: str) -> str | None:
    """Which of diffgeo's commands a line is of; None of one that is none, or has no config."""
    try:
        first, *words = shlex.split(command)
    except ValueError:
        return None
    if first != "diffgeo" or not words:
        return None
    name, _ = split(words)
    known = commands().get(name)
    return name if known is not None and known.configured else None


def differences(config: Mapping, default: Mapping) -> list[tuple[str, str, str]]:
    """(option, default, here) for every option of a config that is not the default's, in the order
    of their names. A group of which another choice was made has other options: what one of them
    does not have is -."""
    own = flat(dict(config))
    usual = flat(dict(default))
    rows = []
    for key in sorted(own.keys() | usual.keys()):
        if own.get(key) != usual.get(key):
            rows.append((key, plain(usual.get(key)), plain(own.get(key))))
    return rows


def plain(value: str | None) -> str:
    """A value of `flat` as a reader sees it."""
    if value is None:
        return ABSENT
    if value == "None":
        return "null"
    return value.strip("'").removeprefix("diffgeo.")


@cache
def known_default(command: str) -> dict:
    """`default_config`, composed once for all runs of a page."""
    return default_config(command)


def config_section(folder: Path) -> Markup:
    """The config of a run: in what it differs from its command's default, and all of it. Raises
    DiffgeoError."""
    path = folder / "config.yaml"
    if not inside(folder, path):
        return element("p", "there is no config.yaml", class_="note")
    config = read_yaml(path)
    if not isinstance(config, dict):
        raise DiffgeoError(f"{path} is damaged: it is no config")
    whole = folded("config.yaml", element("pre", text_of(folder, path) or ""))
    name = name_of(command_of(folder))
    if name is None:
        words = "what differs from the default is told once the run is finished"
        return joined([element("p", words, class_="note"), whole])
    rows = differences(config, known_default(name))
    header = ["option", "default", "here"]
    here = [row for row in rows if row[2] != ABSENT]
    other = [row for row in rows if row[2] == ABSENT]
    caption = f"what differs from `diffgeo {name}` alone"
    parts = [table(header, here, caption)] if here else []
    if other:
        words = "options of the default that this run does not have, of other choices or newer"
        parts.append(folded(words, table(header[:2], [row[:2] for row in other])))
    return joined([*parts, whole])


def provenance_section(folder: Path) -> Markup:
    """Versions, device, seconds; the digests of the files, and of what the run was made from.
    Raises DiffgeoError."""
    record = provenance_of(folder)
    if not record:
        words = "this run is not finished: it has no provenance.json"
        return element("p", words, class_="note")
    told = dict(record)
    files = told.pop("files")
    inputs = told.pop("inputs")
    told.pop("command", None)
    pairs = []
    for key, value in flat(told).items():
        pairs.append((key, seconds(value) if key.endswith(SECONDS) else value.strip("'")))
    parts = [facts(pairs)]
    if inputs:
        parts.append(folded("made from", facts(sorted(flat(inputs).items()))))
    parts.append(folded("sha256 of the files", facts(sorted(flat(files).items()))))
    return joined(parts)


def seconds(value: str) -> str:
    """A number of seconds, three digits of it."""
    try:
        return f"{float(value):.3g} s"
    except ValueError:
        return value
