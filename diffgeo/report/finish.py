"""What follows a network or an exact denoiser in every command: sample it, measure it, draw it, and
leave a finished run folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from diffgeo.config import kinds
from diffgeo.core import Data, Denoiser, Run
from diffgeo.denoiser import trainable
from diffgeo.machine import memory, precision
from diffgeo.machine.distributed import ALONE, World
from diffgeo.metrics.suite import text
from diffgeo.report.figures import figures
from diffgeo.run import Experiment, fitted, provenance
from diffgeo.simulation import Drawn, Simulation, fitting, ranges
from diffgeo.store import shards
from diffgeo.store.files import write_array, write_json
from diffgeo.store.logger import Group, Logger


@dataclass(frozen=True)
class Sampling:
    """How a config asks for its samples: what `planned` has found to fit the law, the model and the
    sampler."""

    precision: str  # float32, tf32 or bf16
    batch: int  # samples at once
    png: bool
    device: torch.device
    recurring: bool  # batches of one shape, throughout

    @contextlib.contextmanager
    def running(self, model: Denoiser) -> Iterator[Denoiser]:
        """The model as it is sampled, in the precision asked for."""
        with precision.running(self.precision, self.recurring):
            yield (
                precision.Cast(model, self.device, self.precision)
                if self.precision == "bf16"
                else model
            )


def planned(cfg, experiment: Experiment) -> Sampling:
    """The sampling options of a config, checked: to be called before anything is trained, drawn or
    written. Raises UsageError."""
    png = kinds.plain("png", cfg.get("png", False), bool)
    kinds.plain("figures", cfg.figures, bool)
    adaptive = experiment.simulation.sampler.adaptive
    kind = precision.resolved(
        cfg.get("precision", "float32"), experiment.device, "tf32", "precision"
    )
    return Sampling(
        kind,
        cfg.get("batch") or fitting(experiment.data.shape),
        png,
        experiment.device,
        not adaptive,
    )


def report(
    cfg,
    verb: str,
    experiment: Experiment,
    folder: Path,
    plan: Sampling,
    logger: Logger | None = None,
    world: World = ALONE,
    **measured,
) -> None:
    """Sample `experiment.model` into `folder` as planned, measure and draw; `measured` goes to
    provenance.json. Every process samples, rank 0 does the rest."""
    cpu = time.process_time()
    wall = time.monotonic()
    experiment = fitted(experiment)
    drawn = sampled(experiment, folder, plan, world)
    if not world.first:
        return
    measured |= {
        "sampling_cpu_s": time.process_time() - cpu,
        "sampling_wall_s": time.monotonic() - wall,
        "n": len(drawn.samples),
    }
    exact = not trainable(experiment.model)
    run = Run(drawn.samples, cfg.seed, experiment.numbers, experiment.simulation, exact, drawn.nfe)
    measure(cfg, verb, experiment, folder, run, logger, **measured)
    shards.remove(folder / "shards")


def sampled(experiment: Experiment, folder: Path, plan: Sampling, world: World) -> Drawn:
    """The experiment's samples in `folder`/samples.npy, and labels.npy where they have classes.

    Points are drawn in memory. Images, and whatever several processes draw, go through shards:
    those that are there are not drawn again.
    """
    data = experiment.data
    simulation = experiment.simulation
    numbers = experiment.numbers
    images = hasattr(data, "quantize")
    if world.first:
        for name, values in simulation.condition.told(numbers).items():
            write_array(folder / f"{name}.npy", values.numpy())
    advice = f"write batch={max(1, min(plan.batch, len(numbers)) // 2)}, the samples drawn at once"
    with memory.advised(advice), plan.running(simulation.denoise) as model:
        simulation = replace(simulation, denoise=model)
        if images or world.size > 1:
            drawn = streamed(simulation, numbers, plan.batch, data, folder, world, quiet=not images)
        else:
            drawn = simulation.draw(numbers, plan.batch)
            write_array(folder / "samples.npy", data.store(drawn.samples))
    if not images:
        drawn = drawn._replace(samples=drawn.samples.to(experiment.device))
    if images and world.first and plan.png:
        pictures(drawn.samples, folder / "samples", numbers.start)
    return drawn


def streamed(
    simulation: Simulation,
    numbers: range,
    batch: int,
    data: Data,
    folder: Path,
    world: World,
    quiet: bool = False,
) -> Drawn:
    """The samples of `numbers` by way of shards, each process its own; rank 0 assembles
    samples.npy. The others return empty."""
    from tqdm import tqdm

    place = folder / "shards"
    path = folder / "samples.npy"
    missing = [
        piece
        for gap in shards.gaps(shards.held(place, numbers), numbers)
        for piece in ranges(gap, batch)
    ]
    world.barrier()  # all have looked before one writes
    mine = missing[world.rank :: world.size]
    with tqdm(
        total=len(numbers),
        initial=len(numbers) - sum(map(len, missing)),
        desc="sample",
        unit="sample",
        disable=quiet or None if world.first else True,
    ) as bar:
        for piece, part in zip(mine, simulation.parts(mine), strict=True):
            shards.write(place, piece, data.store(part.samples), part.nfe)
            bar.update(len(piece) * world.size)
    world.barrier()
    if not world.first:
        return Drawn(torch.empty(0), 0.0)
    nfe = shards.assemble(place, numbers, path)
    return Drawn(data.restore(np.load(path, mmap_mode="c", allow_pickle=False)), nfe)


def pictures(samples: torch.Tensor, folder: Path, first: int) -> None:
    """One PNG a sample [n,C,H,W], folder/000000.png on, by its number; the folder is there when all
    of them are."""
    from PIL import Image

    if folder.exists():
        return
    temporary = folder.with_name(f".{folder.name}")
    temporary.mkdir(exist_ok=True)
    for i, image in enumerate(samples, first):
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        Image.fromarray(pixels.contiguous().numpy()).save(temporary / f"{i:06d}.png")
    temporary.rename(folder)


def measure(
    cfg,
    verb: str,
    experiment: Experiment,
    folder: Path,
    run: Run,
    logger: Logger | None = None,
    **measured,
) -> None:
    """Metrics, figures, provenance, and last of all metrics.json, which marks the folder as
    finished."""
    logger = logger or Group()
    started = time.process_time()
    values = experiment.metrics(run, experiment.data)
    told = (
        experiment.metrics.describe(run, experiment.data)
        if hasattr(experiment.metrics, "describe")
        else {}
    )
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
