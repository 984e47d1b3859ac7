"""What follows a network or an exact denoiser in every command: sample it, measure it, draw it, and leave a finished run folder."""
from __future__ import annotations

import json
import math
import time
from pathlib import Path

import torch

from diffgeo import plot
from diffgeo.core import Run, generator
from diffgeo.denoiser import trainable
from diffgeo.files import write_array, write_json
from diffgeo.logger import Group, Logger
from diffgeo.metrics import denoiser_error, table
from diffgeo.noise import Streams
from diffgeo.run import Experiment, fitted, provenance
from diffgeo.sample import draw, keys
from diffgeo.schedule import OU
from diffgeo.trajectory import collect

PATHS, LEVELS = 64, 40                  # trajectories and noise levels in a picture


def report(cfg, verb: str, experiment: Experiment, folder: Path, logger: Logger | None = None, initial: torch.Tensor | None = None,
           **measured) -> None:
    """Sample `experiment.model` into `folder`, measure and draw; `measured` goes to provenance.json."""
    started = time.process_time()
    experiment = fitted(experiment, cfg.seed)
    drawn = draw(experiment.sampler, experiment.model, experiment.sigmas, experiment.data.shape, cfg.n, cfg.seed, initial,
                 device=experiment.device, loop=experiment.loop, first=cfg.get("first", 0))
    measured |= {"sampling_cpu_s": time.process_time() - started, "n": len(drawn.samples)}
    write_array(folder / "samples.npy", drawn.samples.cpu().numpy())
    run = Run(drawn.samples, cfg.seed, experiment.model, not trainable(experiment.model), experiment.sampler, experiment.sigmas,
              drawn.noise, drawn.nfe)
    measure(cfg, verb, experiment, folder, run, logger, **measured)


def measure(cfg, verb: str, experiment: Experiment, folder: Path, run: Run, logger: Logger | None = None, **measured) -> None:
    """Metrics, figures, provenance, and last of all metrics.json, which marks the folder as finished."""
    logger = logger or Group()
    started = time.process_time()
    values = experiment.metrics(run, experiment.data)
    if run.nfe is not None:
        values["sampling/nfe"] = run.nfe
    measured["metrics_cpu_s"] = time.process_time() - started
    if cfg.figures:
        started = time.process_time()
        for path in figures(experiment, run, folder):
            logger.figure(path.stem, path)
        measured["figures_cpu_s"] = time.process_time() - started
    logger.finish(values, run.samples)
    provenance(folder, cfg, verb, experiment.device, **measured)
    write_json(folder / "metrics.json", values)
    print(table(values))
    print(f"written: {folder}/metrics.json" + (", figures/" if cfg.figures else ""))


def figures(experiment: Experiment, run: Run, folder: Path) -> list[Path]:
    """Draw what there is to draw, into folder/figures; the paths written."""
    data, out, flat = experiment.data, folder / "figures", len(experiment.data.shape) == 1
    if not flat:
        return []
    drawn = []

    def draw_to(name: str, figure, *arguments, **options) -> None:
        drawn.append(out / f"{name}.png")
        figure(drawn[-1], *arguments, **options)

    draw_to("samples", plot.samples, run.samples, data)
    if run.denoise is None:
        return drawn
    draw_to("fields", plot.fields, None if run.exact else run.denoise, data)
    noise = Streams(keys(run.seed, PATHS, device=experiment.device), data.shape)
    start = run.sampler.start(noise(), float(run.sigmas[0]))
    shown = experiment.loop.around(run.denoise, float(run.sigmas[0]))
    with torch.no_grad():
        paths = collect(run.sampler, shown, start, run.sigmas, noise, lower_order_final=experiment.loop.lower_order_final)
        draw_to("trajectories", plot.trajectories, paths, data, PATHS)
    if not run.exact:
        positive = run.sigmas[run.sigmas > 0]
        levels = torch.logspace(*(math.log10(float(positive[i])) for i in (-1, 0)), LEVELS, dtype=torch.float64)
        chart = OU()
        trained = float(chart.t(experiment.schedule.draw(4096, generator(0)).min()))
        curves = denoiser_error(run.denoise, data, levels, chart, 500, run.seed, experiment.device)
        draw_to("errors", plot.errors, {"learned": curves}, trained)
    if (folder / "metrics.jsonl").exists():
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        draw_to("loss", plot.loss, [(r["step"], r["loss"]) for r in records])
    return drawn
