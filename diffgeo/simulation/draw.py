"""Samples by way of shards on the disk: a killed run goes on from those that it has written, where
it still draws from the same, and several processes share the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from diffgeo.core import Data, Fitted
from diffgeo.machine.distributed import World
from diffgeo.machine.precision import Cast
from diffgeo.simulation.batches import ranges
from diffgeo.simulation.simulation import Drawn, Simulation
from diffgeo.store import shards
from diffgeo.store.checkpoint import digest_of


def origin(simulation: Simulation, data: Data) -> str:
    """A digest of what samples are drawn from and no config says: the levels, the given noise, the
    weights of a network; the law, where the denoiser is its own or the sampler was fitted to it;
    and where a first sample begins, if that is not the sampler's own start."""
    tensors = {"levels": simulation.sigmas}
    if simulation.noise is not None:
        tensors["noise"] = simulation.noise
    denoise = simulation.denoise
    network = denoise.denoise if isinstance(denoise, Cast) else denoise
    needs_law = isinstance(simulation.sampler, Fitted)
    if simulation.initial is not None:
        tensors["start"] = simulation.start(range(simulation.first, simulation.first + 1)).x
    if isinstance(network, nn.Module):
        for name, value in network.state_dict().items():
            tensors[f"weights {name}"] = value
    else:
        needs_law = True
    return digest_of(tensors, first=str(simulation.first), law=data.key if needs_law else "")


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
    quiet: bool = False,
) -> Drawn:
    """The samples of `numbers` in `folder`/samples.npy, by way of `folder`/shards.

    Each process draws its own share of what is missing; rank 0 assembles samples.npy and returns
    it, memory-mapped, in the form that the law restores. The others return nothing.
    """
    from tqdm import tqdm

    place = folder / "shards"
    path = folder / "samples.npy"
    named = origin(simulation, data)
    if world.first:
        shards.sift(place, named)
    world.barrier()
    missing = missing_of(place, numbers, batch)
    world.barrier()  # all have looked before one writes
    mine = missing[world.rank :: world.size]
    there = len(numbers) - sum(map(len, missing))
    hidden = True if quiet or not world.first else None  # None: shown on a terminal alone
    with tqdm(
        total=len(numbers), initial=there, desc="sample", unit="sample", disable=hidden
    ) as bar:
        for piece, part in zip(mine, simulation.parts(mine), strict=True):
            shards.write(place, piece, data.store(part.samples), part.nfe, named)
            bar.update(len(piece) * world.size)
    world.barrier()
    if not world.first:
        return Drawn(torch.empty(0), 0.0)
    nfe = shards.assemble(place, numbers, path)
    return Drawn(data.restore(np.load(path, mmap_mode="c", allow_pickle=False)), nfe)
