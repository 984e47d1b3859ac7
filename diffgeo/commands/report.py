"""What follows a network or an exact denoiser in every command: sample it, measure it, draw it, and leave a finished run folder."""
from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from diffgeo import kinds, memory, precision, shards
from diffgeo.commands.figures import figures
from diffgeo.core import Data, Denoiser, Run
from diffgeo.denoiser import trainable
from diffgeo.distributed import ALONE, World
from diffgeo.errors import UsageError
from diffgeo.files import write_array, write_json
from diffgeo.logger import Group, Logger
from diffgeo.metrics.suite import text
from diffgeo.noise import Streams
from diffgeo.run import Experiment, classes_of, fitted, provenance
from diffgeo.sample import Condition, Drawn, draw, fitting, keys, parts, ranges


@dataclass(frozen=True)
class Sampling:
    """How a config asks for its samples: what `planned` has found to fit the law, the model and the sampler."""

    condition: Condition
    precision: str              # float32, tf32 or bf16
    batch: int                  # samples at once
    png: bool
    device: torch.device
    recurring: bool             # batches of one shape, throughout

    @contextlib.contextmanager
    def running(self, model: Denoiser) -> Iterator[Denoiser]:
        """The model as it is sampled, in the precision asked for."""
        with precision.running(self.precision, self.recurring):
            yield precision.Cast(model, self.device, self.precision) if self.precision == "bf16" else model


def planned(cfg, experiment: Experiment) -> Sampling:
    """The sampling options of a config, checked: to be called before anything is trained, drawn or written. Raises UsageError."""
    guidance, png = kinds.plain("guidance", cfg.get("guidance", 1.0)), kinds.plain("png", cfg.get("png", False), bool)
    kinds.plain("figures", cfg.figures, bool)
    condition = Condition(cfg.get("label"), guidance, classes_of(experiment.model, experiment.data))
    adaptive = getattr(experiment.sampler, "adaptive", False)
    if condition.label == "all" and adaptive:
        raise UsageError("label=all: an adaptive sampler lets some samples go ahead of others; write one class, or another sampler")
    kind = precision.resolved(cfg.get("precision", "float32"), experiment.device, "tf32", "precision")
    return Sampling(condition, kind, cfg.get("batch") or fitting(experiment.data.shape), png, experiment.device, not adaptive)


def report(cfg, verb: str, experiment: Experiment, folder: Path, plan: Sampling, logger: Logger | None = None,
           initial: torch.Tensor | None = None, world: World = ALONE, **measured) -> None:
    """Sample `experiment.model` into `folder` as planned, measure and draw; `measured` goes to provenance.json. Every process samples,
    rank 0 does the rest."""
    cpu, wall = time.process_time(), time.monotonic()
    experiment = fitted(experiment, cfg.seed)
    drawn = sampled(cfg, experiment, folder, plan, initial, world)
    if not world.first:
        return
    measured |= {"sampling_cpu_s": time.process_time() - cpu, "sampling_wall_s": time.monotonic() - wall, "n": len(drawn.samples)}
    run = Run(drawn.samples, cfg.seed, experiment.model, not trainable(experiment.model), experiment.sampler, experiment.sigmas,
              drawn.noise, drawn.nfe, experiment.loop)
    measure(cfg, verb, experiment, folder, run, logger, **measured)
    shards.remove(folder / "shards")


def sampled(cfg, experiment: Experiment, folder: Path, plan: Sampling, initial: torch.Tensor | None, world: World) -> Drawn:
    """cfg.n samples in `folder`/samples.npy, and labels.npy where they have classes.

    Points are drawn in memory. Images, and whatever several processes draw, go through shards: those that are there are not drawn again.
    """
    data, device, first = experiment.data, experiment.device, cfg.get("first", 0)
    numbers = range(first, first + cfg.n)
    images, batch = hasattr(data, "quantize"), plan.batch
    common = dict(seed=cfg.seed, initial=initial, device=device, loop=experiment.loop, first=first, condition=plan.condition)
    labels = plan.condition.labels(numbers)
    if labels is not None and world.first:
        write_array(folder / "labels.npy", labels.numpy())
    advice = f"write batch={max(1, min(batch, cfg.n) // 2)}, the samples drawn at once"
    with memory.advised(advice), plan.running(experiment.model) as model:
        arguments = experiment.sampler, model, experiment.sigmas, data.shape
        if not images and world.size == 1:
            drawn = draw(*arguments, cfg.n, batch=batch, **common)
            write_array(folder / "samples.npy", data.store(drawn.samples))
        else:
            samples, nfe, fresh = streamed(partial(parts, *arguments, **common), numbers, batch, data, folder, world, quiet=not images)
            noise = None                                            # that of many images would fill the memory
            if fresh and not images:
                unit = Streams(keys(cfg.seed, cfg.n, first, device), data.shape)() if initial is None else initial
                noise = unit.to(device, torch.float64)
            drawn = Drawn(samples if images else samples.to(device), nfe, noise)
    if images and world.first and plan.png:
        pictures(drawn.samples, folder / "samples", first)
    return drawn


def streamed(draw_parts: Callable[..., Iterator[Drawn]], numbers: range, batch: int, data: Data, folder: Path, world: World,
             quiet: bool = False) -> tuple[torch.Tensor, float, bool]:
    """The samples of `numbers` by way of shards, each process its own; rank 0 assembles samples.npy and returns them, with the evaluations
    a sample and whether they came from their first draw of noise alone. The others return empty."""
    from tqdm import tqdm

    place, path = folder / "shards", folder / "samples.npy"
    missing = [piece for gap in shards.gaps(shards.held(place, numbers), numbers) for piece in ranges(gap, batch)]
    world.barrier()                                                 # all have looked before one writes
    mine = missing[world.rank::world.size]
    with tqdm(total=len(numbers), initial=len(numbers) - sum(map(len, missing)), desc="sample", unit="sample",
              disable=quiet or None if world.first else True) as bar:
        for piece, part in zip(mine, draw_parts(pieces=mine), strict=True):
            shards.write(place, piece, data.store(part.samples), part.nfe, part.noise is not None)
            bar.update(len(piece) * world.size)
    world.barrier()
    if not world.first:
        return torch.empty(0), 0.0, False
    nfe, fresh = shards.assemble(place, numbers, path)
    return data.restore(np.load(path, mmap_mode="c", allow_pickle=False)), nfe, fresh


def pictures(samples: torch.Tensor, folder: Path, first: int) -> None:
    """One PNG a sample [n,C,H,W], folder/000000.png on, by its number; the folder is there when all of them are."""
    from PIL import Image

    if folder.exists():
        return
    temporary = folder.with_name(f".{folder.name}")
    temporary.mkdir(exist_ok=True)
    for i, image in enumerate(samples, first):
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        Image.fromarray(pixels.contiguous().numpy()).save(temporary / f"{i:06d}.png")
    temporary.rename(folder)


def measure(cfg, verb: str, experiment: Experiment, folder: Path, run: Run, logger: Logger | None = None, **measured) -> None:
    """Metrics, figures, provenance, and last of all metrics.json, which marks the folder as finished."""
    logger = logger or Group()
    started = time.process_time()
    values = experiment.metrics(run, experiment.data)
    told = experiment.metrics.describe(run, experiment.data) if hasattr(experiment.metrics, "describe") else {}
    if run.nfe is not None:
        values["sampling/nfe"] = run.nfe
    measured["metrics_cpu_s"] = time.process_time() - started
    if cfg.figures:
        started = time.process_time()
        for path in figures(experiment, run, folder, values):
            logger.figure(path.stem, path)
        measured["figures_cpu_s"] = time.process_time() - started
    logger.finish(values, run.samples)
    provenance(folder, cfg, verb, experiment.device, **measured)
    if told:
        write_json(folder / "fid.json", told)
    write_json(folder / "metrics.json", values)
    print(text(experiment.metrics, values))
    print(f"written: {folder}/metrics.json" + (", figures/" if cfg.figures else ""))
