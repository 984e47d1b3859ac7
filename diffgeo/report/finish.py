"""How every command ends: sample a network or an exact denoiser, measure, draw, and leave a
finished run folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from diffgeo.config.build import Experiment, fitted
from diffgeo.core import Data, Denoiser, Pictures, Run
from diffgeo.denoiser import is_own
from diffgeo.inverse.posterior import Posterior
from diffgeo.machine import memory, progress
from diffgeo.machine.distributed import ALONE, World
from diffgeo.machine.speed import Clock
from diffgeo.metrics.suite import text
from diffgeo.pretrained.latent.dit import LatentClassNetwork
from diffgeo.pretrained.latent.model import LatentNetwork
from diffgeo.report.figures import View, chosen, draw
from diffgeo.run import RunFolder
from diffgeo.simulation import Drawn
from diffgeo.simulation.condition import Worded
from diffgeo.simulation.draw import streamed
from diffgeo.store import shards
from diffgeo.store.files import atomic_folder, write_json, write_text
from diffgeo.store.logger import Group, Logger
from diffgeo.store.npy import write_array


def ready(experiment: Experiment, n: int) -> None:
    """Check what the end of a run will ask for: the files of its metrics of n samples, the names of
    its figures. To be called before anything is trained, drawn or written. Raises UsageError."""
    chosen(experiment.figures)
    experiment.metrics.prepare(experiment.data, n)


def report(
    experiment: Experiment,
    folder: RunFolder,
    logger: Logger | None = None,
    world: World = ALONE,
    **measured,
) -> None:
    """Sample the experiment's model into `folder`, measure and draw; `measured` goes to
    provenance.json. Every process samples, rank 0 does the rest."""
    watch = Watch()
    experiment = fitted(experiment)
    drawn = sampled(experiment, folder.path, world)
    if not world.first:
        return
    measured |= watch.seconds("sampling")
    measured["n"] = len(drawn.samples)
    measured |= of_folder(experiment.model)
    simulation = experiment.simulation
    run = Run(
        drawn.samples,
        seed=simulation.seed,
        numbers=experiment.numbers,
        simulation=simulation,
        exact=is_own(experiment.model, experiment.data),
        nfe=drawn.nfe,
    )
    measure(experiment, folder, run, logger, **measured)
    shards.remove(folder.path / "shards")


def sampled(experiment: Experiment, path: Path, world: World) -> Drawn:
    """The experiment's samples in `path`/samples.npy, and beside it what each of them was told: an
    array, or prompts.txt, a line each.

    Points are drawn in memory. Pictures, and whatever several processes draw, go through shards:
    those that are there are not drawn again.
    """
    data = experiment.data
    numbers = experiment.numbers
    sampling = experiment.sampling
    images = isinstance(data, Pictures)
    condition = experiment.simulation.condition
    if world.first:
        for name, values in condition.told(numbers).items():
            write_array(path / f"{name}.npy", values.numpy())
        if isinstance(condition, Worded):
            write_text(path / "prompts.txt", lines_of(condition.words(numbers)))
    half = max(1, min(sampling.batch, len(numbers)) // 2)
    with (
        memory.advised(f"write batch={half}, the samples drawn at once"),
        sampling.running(experiment.simulation) as simulation,
    ):
        if images or world.size > 1:
            drawn = streamed(simulation, numbers, sampling.batch, data, path, world, leave=images)
        else:
            drawn = simulation.draw(numbers, sampling.batch)
            write_array(path / "samples.npy", data.store(drawn.samples))
    if not images:
        return drawn._replace(samples=drawn.samples.to(experiment.device))
    if world.first and experiment.png and isinstance(data, Pictures):
        pictures(drawn.samples, data, path / "samples", numbers.start)
    return drawn


def lines_of(words: Sequence[str]) -> str:
    """Prompts, a line each: a line break inside one is a space."""
    return "".join(" ".join(text.splitlines()) + "\n" for text in words)


def of_folder(model: Denoiser) -> dict[str, object]:
    """What provenance.json says of a model of latents: the digest of every weight file, and the
    keys of the scheduler."""
    if not isinstance(model, LatentNetwork | LatentClassNetwork):
        return {}
    scheduler = model.folder.scheduler
    return {
        "weights": model.folder.digests(),
        "scheduler": {"_class_name": scheduler.kind} | scheduler.says,
    }


def pictures(samples: torch.Tensor, data: Pictures, folder: Path, first: int) -> None:
    """One PNG a sample, folder/000000.png on, by its number; the folder is there when all of them
    are. One of an earlier process, which may have drawn others, is made anew."""
    from PIL import Image

    shutil.rmtree(folder, ignore_errors=True)
    with atomic_folder(folder) as temporary:
        for number, sample in enumerate(samples.split(1), first):
            (image,) = data.quantize(sample).cpu()
            pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
            Image.fromarray(pixels.contiguous().numpy()).save(temporary / f"{number:06d}.png")


def measure(
    experiment: Experiment,
    folder: RunFolder,
    run: Run,
    logger: Logger | None = None,
    **measured,
) -> None:
    """Metrics, figures, and what makes a folder a finished one (`RunFolder.finish`)."""
    logger = logger or Group()
    metrics = experiment.metrics
    watch = Watch()
    values = metrics(run, experiment.data)
    told = metrics.describe(run, experiment.data)
    values |= of_posterior(experiment.data)
    if run.nfe is not None:
        values["sampling/nfe"] = run.nfe
    measured |= watch.seconds("metrics")
    if experiment.figures:
        watch = Watch()
        view = View(experiment, run, values, folder.path)
        for picture in pictured(chosen(experiment.figures), view):
            logger.figure(picture.stem, picture)
        measured |= watch.seconds("figures")
    logger.finish(values, run.samples)
    if told:
        write_json(folder.path / "fid.json", told)
    folder.finish(values, experiment.device, **measured)
    print(text(metrics, values))
    drawn = ", figures/" if experiment.figures else ""
    print(f"written: {folder.path}/metrics.json{drawn}")
    print(times(measured))


def pictured(wanted: Sequence[str], view: View) -> Iterator[Path]:
    """Draw the figures, with a bar; the paths of those that show something."""
    with progress.bar(len(wanted), "figures", "figure", leave=False) as bar:
        for name in wanted:
            bar.tell(now=name)
            yield from draw([name], view)
            bar.update(1)


class Watch:
    """The seconds since it was made, as provenance.json has them."""

    def __init__(self):
        self.clock = Clock()

    def seconds(self, what: str) -> dict[str, float]:
        cpu, wall = self.clock.read()
        return {f"{what}_cpu_s": cpu, f"{what}_wall_s": wall}


def times(measured: Mapping[str, object]) -> str:
    """Where the time went, in a line: seconds of the wall clock, of all processes of the run."""
    parts = {}
    for part in ("training", "sampling", "exact", "metrics", "figures"):
        seconds = measured.get(f"{part}_wall_s")
        if isinstance(seconds, float):
            parts[part] = seconds
    told = ", ".join(f"{part} {seconds:.3g} s" for part, seconds in parts.items())
    return f"time: {sum(parts.values()):.3g} s: {told}"


def of_posterior(data: Data) -> dict[str, float]:
    """What is known of a law that a measurement has made: log p(y) in nats, and how many atoms of
    equal weight are as uneven as its own."""
    if not isinstance(data, Posterior):
        return {}
    known = {"posterior/log_evidence": data.log_evidence, "posterior/ess": data.ess}
    return {name: value for name, value in known.items() if value is not None}
