"""Data parallel over processes, by plain torch.distributed: gloo on a CPU, nccl on GPUs.

    torchrun --nproc-per-node 2 -m diffgeo train experiment=digits

Training: every rank draws the same global batch (the draw is keyed by seed and chunk), works on its
own rows of it, and one all_reduce of the flat gradient sums them: the step is the single process's,
to the rounding of a sum (dropout apart, whose masks each rank draws for its own rows). Sampling:
sample i depends on (seed, i) alone, so the ranks take disjoint ranges of numbers. Rank 0 alone
writes, logs and prints; the run folder is rank 0's.

On SLURM: `diffgeo train -m hydra/launcher=submitit_slurm hydra.launcher.partition=gpu
hydra.launcher.gpus_per_node=1 seed=0,1,2` runs a sweep, one job a GPU (pip install
'diffgeo[sweep]'). One run over several GPUs is torchrun inside an allocation, its folder on a file
system that all nodes see:

    srun -N 2 --ntasks-per-node 1 torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d
    --rdzv-endpoint $HEAD:29500 -m diffgeo ...
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.machine import signals
from diffgeo.machine.environment import place

PATIENCE = timedelta(hours=6)  # rank 0 measures, draws and writes alone while the others wait
LINGER = 2.0  # seconds that a process leaves the one that failed before it, for its line on stderr


@dataclass(frozen=True)
class World:
    """The processes of a run. With one of them every method is a no-op."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def sum_(self, x: Tensor) -> Tensor:
        """x, in place its sum over the ranks."""
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def copy_(self, x: Tensor) -> Tensor:
        """x, in place rank 0's."""
        if self.size > 1:
            dist.broadcast(x, 0)
        return x

    def text(self, value: str) -> str:
        """Rank 0's text of at most 4096 bytes."""
        if self.size == 1:
            return value
        page = torch.zeros(4096, dtype=torch.uint8, device=self.device)
        data = torch.tensor(list(value.encode()[: len(page)]), dtype=torch.uint8)
        page[: len(data)] = data.to(self.device)
        return bytes(self.copy_(page).tolist()).rstrip(b"\0").decode()

    def most(self, *numbers: int) -> list[int]:
        """Of each number the largest that any rank has."""
        if self.size == 1:
            return list(numbers)
        page = torch.tensor(numbers, device=self.device)
        dist.all_reduce(page, dist.ReduceOp.MAX)
        return page.tolist()

    def agree(self, flag: bool) -> bool:
        """Rank 0's flag."""
        if self.size == 1:
            return flag
        return bool(self.copy_(torch.tensor(int(flag), device=self.device)))

    def once(self, action: Callable[[], bool]) -> bool:
        """Rank 0 does `action`; what it returned, on every rank, when it is done."""
        done = action() if self.first else False
        return self.agree(done)

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def rows(self, n: int) -> slice:
        """This rank's share of n rows."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def folder(self, stamped: Path) -> Path:
        """Rank 0's run folder. Hydra stamped one for every process: an empty one of another rank is
        removed."""
        folder = Path(self.text(str(stamped)))
        if folder != stamped:
            with contextlib.suppress(OSError):
                stamped.rmdir()
        return folder


ALONE = World()


def own(device: torch.device) -> torch.device:
    """This process's own GPU, where there are several processes. Raises UsageError where the
    environment is half of torchrun's."""
    here = place()
    if here.size == 1 or device.type != "cuda":
        return device
    return torch.device("cuda", here.local % max(1, torch.cuda.device_count()))


@contextlib.contextmanager
def joined(device: torch.device, multirun: bool = False) -> Iterator[World]:
    """The world of this process, from torchrun's environment variables; `ALONE` without them.

    An error that leaves the block says in its attribute `first` whether this process was the first
    to fail, the one that tells it (`cli.speaks`): what the others then meet is a broken connection.
    They linger, for torchrun ends all processes when one of them leaves.
    """
    if place().size == 1:
        yield ALONE
        return
    if multirun:
        raise UsageError(
            "torchrun runs one job: leave -m out, or leave torchrun out and let the sweep's "
            "launcher start the jobs"
        )
    from torch.distributed.rendezvous import rendezvous

    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, ranks = next(iter(rendezvous("env://", timeout=PATIENCE)))
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=ranks,
        timeout=PATIENCE,
    )
    try:
        with contextlib.ExitStack() as stack:
            if rank != 0:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield World(rank, ranks, device)
        dist.barrier()
    except (Exception, signals.Stopped) as error:
        error.first = _first_to_fail(store)
        if not error.first:
            time.sleep(LINGER)
        raise
    dist.destroy_process_group()


def _first_to_fail(store: dist.Store) -> bool:
    """Whether no other process has asked this before."""
    try:
        return store.add("diffgeo/failed", 1) == 1
    except RuntimeError:  # the store went with the process that kept it
        return False
