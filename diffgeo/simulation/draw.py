"""Samples by way of shards on the disk: a killed run goes on from those that it has written, where
it still draws from the same, and several processes share the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Protocol, runtime_checkable

from diffgeo.core import Data, Fitted, Pictures
from diffgeo.denoiser import Network
from diffgeo.machine import progress
from diffgeo.machine.distributed import World
from diffgeo.machine.precision import Cast
from diffgeo.simulation.batches import ranges
from diffgeo.simulation.condition import Worded
from diffgeo.simulation.simulation import Drawn, Simulation
from diffgeo.store import shards
from diffgeo.store.checkpoint import digest_of
from diffgeo.store.digest import of_code


@runtime_checkable
class Decoded(Pictures, Protocol):
    """Pictures that a network makes of samples: `key` names its weights."""

    def beside(self, x: Tensor) -> dict[str, Tensor]: ...  # what is kept beside them, by name


def origin(simulation: Simulation, data: Data, numbers: range = range(0)) -> str:
    """A digest of what samples are drawn from and no config says: the levels, the given noise, the
    weights of a network; the law, where the denoiser is its own, the sampler was fitted to it or a
    network decodes; the code of a sampler and of a network that are not ours; where a first sample
    begins, if that is not the sampler's own start; and what the samples of `numbers` are told in
    words."""
    tensors = {"levels": simulation.sigmas}
    if simulation.noise is not None:
        tensors["noise"] = simulation.noise
    denoise = simulation.denoise
    network = denoise.denoise if isinstance(denoise, Cast) else denoise
    needs_law = isinstance(simulation.sampler, Fitted) or isinstance(data, Decoded)
    if simulation.initial is not None:
        tensors["start"] = simulation.start(range(simulation.first, simulation.first + 1)).x
    if isinstance(network, nn.Module):
        for name, value in network.state_dict().items():
            tensors[f"weights {name}"] = value
    else:
        needs_law = True
    facts = {"first": str(simulation.first), "law": data.key if needs_law else ""}
    made_by: list[type] = [type(simulation.sampler), type(network)]
    if isinstance(network, Network):
        made_by.append(type(network.net))
    if code := "".join(of_code(kind) for kind in made_by):
        facts["code"] = code
    if isinstance(simulation.condition, Worded):
        facts["words"] = "\n".join(simulation.condition.words(numbers))
    return digest_of(tensors, **facts)


def missing_of(place: Path, numbers: range, batch: int) -> list[range]:
    """The numbers that no shard in `place` holds, in pieces of at most `batch`."""
    gaps = shards.gaps(shards.held(place, numbers), numbers)
    return [piece for gap in gaps for piece in ranges(gap, batch)]


def streamed(
    simulation: Simulation,
    numbers: range,
    batch: int,
    data: Data,
    folder: Path,
    world: World,
    leave: bool = True,
) -> Drawn:
    """The samples of `numbers` in `folder`/samples.npy, by way of `folder`/shards.

    Each process draws its own share of what is missing; rank 0 assembles samples.npy and returns
    it, memory-mapped, in the form that the law restores. The others return nothing.

    leave: whether the progress bar stays on the terminal.
    """
    place = folder / "shards"
    path = folder / "samples.npy"
    named = origin(simulation, data, numbers)
    if world.first:
        shards.sift(place, named)
    world.barrier()
    missing = missing_of(place, numbers, batch)
    world.barrier()  # all have looked before one writes
    mine = missing[world.rank :: world.size]
    there = len(numbers) - sum(map(len, missing))
    with progress.bar(len(numbers), "sample", "sample", there, world.first, leave) as bar:
        parts = simulation.parts(mine, lambda done: bar.update(done * world.size))
        for piece, part in zip(mine, parts, strict=True):
            stored = data.store(part.samples)
            beside = data.beside(part.samples) if isinstance(data, Decoded) else {}
            shards.write(place, piece, stored, part.nfe, named, beside)
    world.barrier()
    if not world.first:
        return Drawn(torch.empty(0), 0.0)
    for name in shards.told_names(place, numbers):
        shards.assemble(place, numbers, folder / f"{name}.npy", shards.TOLD + name)
    nfe = shards.assemble(place, numbers, path)
    return Drawn(data.restore(np.load(path, mmap_mode="c", allow_pickle=False)), nfe)
