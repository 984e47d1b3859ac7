"""Samples on their way to disk: one file a batch, so that memory stays bounded and a killed run
goes on where it was.

    shards/000000512-000001024.safetensors      samples 512 .. 1023 as the law stores them, with the
                                                network evaluations they took, a digest of what
                                                they were drawn from, and what else was told of
                                                each
    samples.npy                                 all, assembled at the end, row by row

A shard is whole or absent, and sample i depends on (seed, i) alone: the gaps between shards are all
that is left to draw, in batches of any size, by any number of processes. Whoever takes a folder up
says what it draws from: `sift` removes the shards of anything else, and those that are damaged.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffgeo.errors import DiffgeoError
from diffgeo.store.checkpoint import load_tensors, save_tensors
from diffgeo.store.npy import rows

NAME = re.compile(r"(\d{9,})-(\d{9,})\.safetensors")
TOLD = "told/"  # before the names of what is told of samples
CURE = "delete it to draw it again"


class Shard(NamedTuple):
    numbers: range
    path: Path


def within(folder: Path) -> list[Shard]:
    """Every shard in `folder`."""
    found = []
    for path in folder.glob("*.safetensors"):
        if name := NAME.fullmatch(path.name):
            found.append(Shard(range(int(name[1]), int(name[2])), path))
    return found


def sift(folder: Path, origin: str) -> None:
    """Remove the shards that were not drawn from `origin` (a digest), and those that are damaged;
    how many of each, is said."""
    foreign = 0
    damaged = 0
    shards = within(folder)
    for shard in shards:
        try:
            tensors, facts = load_tensors(shard.path, cure=CURE)
            if len(tensors.get("samples", ())) != len(shard.numbers):
                raise DiffgeoError(f"{shard.path} does not hold what its name says; {CURE}")
        except DiffgeoError:
            damaged += 1
            shard.path.unlink()
            continue
        if facts.get("origin") != origin:
            foreign += 1
            shard.path.unlink()
    if damaged:
        print(f"{damaged} of {len(shards)} shards in {folder} are damaged: drawn again")
    if foreign:
        print(
            f"{foreign} of {len(shards)} shards in {folder} were drawn from other weights, another "
            "law, other noise or other levels: drawn again"
        )


def held(folder: Path, numbers: range) -> list[Shard]:
    """The shards in `folder` that lie within `numbers`, in order, none over another."""
    found = within(folder)
    found.sort(key=lambda shard: (shard.numbers.start, -shard.numbers.stop))
    kept: list[Shard] = []
    at = numbers.start
    for shard in found:
        if at <= shard.numbers.start and shard.numbers.stop <= numbers.stop:
            kept.append(shard)
            at = shard.numbers.stop
    return kept


def gaps(shards: Iterable[Shard], numbers: range) -> list[range]:
    """The numbers that no shard holds."""
    missing = []
    at = numbers.start
    for shard in shards:
        missing.append(range(at, shard.numbers.start))
        at = shard.numbers.stop
    missing.append(range(at, numbers.stop))
    return [gap for gap in missing if gap]


def write(
    folder: Path,
    numbers: range,
    array: np.ndarray,
    nfe: float,
    origin: str = "",
    told: Mapping[str, Tensor] | None = None,
) -> None:
    """One shard: the samples of `numbers`, the evaluations a sample, the digest of what they were
    drawn from, and by name what else is told of each of them, [n,...]."""
    name = f"{numbers.start:09d}-{numbers.stop:09d}.safetensors"
    tensors = {"samples": torch.from_numpy(array)}
    for key, values in (told or {}).items():
        tensors[TOLD + key] = values.contiguous()
    save_tensors(folder / name, tensors, nfe=repr(nfe), origin=origin)


def told(folder: Path, numbers: range) -> dict[str, Tensor]:
    """What else shards tell of `numbers`, all of which they hold, by name, [n,...]."""
    found: dict[str, list[Tensor]] = {}
    for shard in held(folder, numbers):
        for key, values in load_tensors(shard.path, cure=CURE)[0].items():
            if key.startswith(TOLD):
                found.setdefault(key.removeprefix(TOLD), []).append(values)
    return {key: torch.cat(parts) for key, parts in found.items()}


def told_names(folder: Path, numbers: range) -> list[str]:
    """The names of what else the shards of `numbers` tell of each sample."""
    first = load_tensors(held(folder, numbers)[0].path, cure=CURE)[0]
    return [key.removeprefix(TOLD) for key in sorted(first) if key.startswith(TOLD)]


def assemble(folder: Path, numbers: range, path: Path, what: str = "samples") -> float:
    """Write the samples of `numbers`, all of which shards hold, or `what` else they tell of each,
    to `path`, one shard in memory at a time; the evaluations a sample."""
    evaluations = 0.0
    parts = held(folder, numbers)
    first = load_tensors(parts[0].path, cure=CURE)[0][what].numpy()
    with rows(path, (len(numbers), *first.shape[1:]), first.dtype) as append:
        for shard in parts:
            tensors, facts = load_tensors(shard.path, cure=CURE)
            array = append(tensors[what].numpy())
            evaluations += float(facts["nfe"]) * len(array)
    return evaluations / len(numbers)


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
