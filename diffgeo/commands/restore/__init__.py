"""`diffgeo restore`: images from measurements y = A x + sigma_n n, by a diffusion prior

    diffgeo restore data=mnist operator=inpaint_box algorithm=diffpir image=0:4
    diffgeo restore run=FOLDER operator=sr operator.factor=4 sigma_n=.05 image=photo.png
    diffgeo restore -m data=gaussian operator=matrix operator.file=A.npy algorithm=exact,ddrm
    diffgeo restore data=mixture operator.file=A.npy images=200 draws=19 calibration=true

prints what the draws are worth against the truth (error, PSNR, SSIM), the measurement (misfit,
which is 1 for a draw of the posterior) and the exact posterior of the law (distances with their
floors, effective sample size). Writes restored.npy [images,draws,*D], truth.npy, measurement.npy,
images.csv, metrics.json and a picture. A killed run of images goes on from its shards; the bytes of
an image do not depend on what else is restored.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffgeo.commands.restore import pictures, told
from diffgeo.commands.restore.measured import (
    COMPARED,
    Beside,
    Row,
    beside,
    calibrated,
    content_of,
    means,
    of_image,
)
from diffgeo.commands.restore.problem import Problem, posed
from diffgeo.core import ImageSet
from diffgeo.inverse.operators.base import Imagewise, Stored
from diffgeo.inverse.restoration import Restoration
from diffgeo.machine import memory, progress
from diffgeo.run import Job, RunFolder
from diffgeo.simulation.draw import origin
from diffgeo.store import shards
from diffgeo.store.checkpoint import digest_of
from diffgeo.store.files import write_text
from diffgeo.store.npy import write_array


def main(cfg, job: Job) -> None:
    """Restore what is asked for, and measure it."""
    problem = posed(cfg, job)
    folder = RunFolder.of("restore", cfg, job)
    if folder.begin():
        return
    began = time.process_time()
    with (
        memory.advised("write a smaller batch= or fewer draws="),
        problem.experiment.sampling.running(problem.restoration.simulation) as simulation,
    ):
        draws, nfe, account = restored(problem.drawn_by(simulation), job.path)
    sampled = time.process_time() - began
    rows, besides = measured(problem, draws, account)
    values = numbers(problem, draws, rows, besides, nfe)
    stored(problem, besides, job.path)
    write_text(job.path / "images.csv", told.csv_of(problem.asked.images, rows))
    title = told.title(cfg, job, problem, nfe)
    if problem.experiment.figures:
        pictures.figures(job.path / "figures", problem, draws, besides, rows, title)
    folder.finish(
        values,
        problem.experiment.device,
        sampling_cpu_s=sampled,
        measuring_cpu_s=time.process_time() - began - sampled,
        operator=content_of(problem.measurement(problem.asked.images.start)),
    )
    shards.remove(job.path / "shards")
    print(told.text(title, values, problem))
    for line in told.step_of_its_own(cfg, job, problem):
        print(line)
    print(told.written(job.path, bool(problem.experiment.figures)))


def restored(problem: Problem, folder: Path) -> tuple[Tensor, float, dict[str, Tensor]]:
    """The draws [images,draws,*D], in `folder`/restored.npy; the evaluations of one; and what the
    step tells of every draw, by name, [images,draws]. Images go through shards: those that are
    there are not restored again."""
    images = problem.asked.images
    path = folder / "restored.npy"
    if not isinstance(problem.experiment.data, ImageSet):
        parts = list(problem.restoration.parts(images))
        account = {}
        for name in parts[0].told:
            account[name] = torch.cat([part.told[name] for part in parts])
        draws = torch.cat([part.draws for part in parts])
        nfe = sum(part.nfe * len(part.images) for part in parts) / len(images)
        write_array(path, draws.cpu().numpy())
        return draws.cpu(), nfe, account
    place = folder / "shards"
    named = made_from(problem)
    shards.sift(place, named)
    gaps = shards.gaps(shards.held(place, images), images)
    there = len(images) - sum(map(len, gaps))
    with progress.bar(len(images), "restore", "image", there) as bar:
        for gap in gaps:
            for part in problem.restoration.parts(gap):
                array = part.draws.cpu().numpy()
                shards.write(place, part.images, array, part.nfe, named, part.told)
                bar.update(len(part.images))
    nfe = shards.assemble(place, images, path)
    draws = torch.from_numpy(np.load(path, allow_pickle=False))
    return draws, nfe, shards.told(place, images)


def made_from(problem: Problem) -> str:
    """A digest of what the draws are made of and no config says: weights, levels, measurements."""
    y = [problem.asked.measured(number) for number in problem.asked.images]
    prior = origin(problem.restoration.simulation, problem.experiment.data)
    operator = content_of(problem.measurement(problem.asked.images.start))
    return digest_of({"y": torch.stack(y)}, prior=prior, operator=operator)


def stored(problem: Problem, besides: list[Beside | None], folder: Path) -> None:
    """measurement.npy [images,*M]; truth.npy [images,*D] where there is one; of images beside.npy,
    which `compare` shows; of an operator that each image has its own of, what they are made of."""
    images = problem.asked.images
    y = torch.stack([problem.asked.measured(number) for number in images])
    write_array(folder / "measurement.npy", y.numpy())
    if problem.asked.truth is not None:
        truths = torch.stack([problem.asked.truth(number) for number in images])
        write_array(folder / "truth.npy", truths.numpy())
    if isinstance(problem.restoration.operator, Imagewise):
        for name, each in of_each(problem.restoration, images).items():
            write_array(folder / f"operator_{name}.npy", each.numpy())
    if isinstance(problem.experiment.data, ImageSet):
        write_array(folder / "beside.npy", pictures.beside_images(problem, besides).numpy())


def of_each(restoration: Restoration, images: range) -> dict[str, Tensor]:
    """What the operators of these images are made of, by name, [images,...]."""
    found: dict[str, list[Tensor]] = {}
    for number in images:
        operator = restoration.operator_of(number)
        assert isinstance(operator, Stored)
        for name, values in operator.contents().items():
            found.setdefault(name, []).append(values)
    return {name: torch.stack(each) for name, each in found.items()}


def measured(
    problem: Problem, draws: Tensor, account: dict[str, Tensor]
) -> tuple[list[Row], list[Beside | None]]:
    """The row of every image, and the exact posterior beside it."""
    data = problem.experiment.data
    rows = []
    besides = []
    for place, number in enumerate(problem.asked.images):
        measurement = problem.measurement(number)
        exact = None
        if problem.posterior:
            count = problem.restoration.draws
            seed = problem.restoration.simulation.seed
            exact = beside(data, measurement, number, count, seed, place < COMPARED)
        truth = problem.asked.truth
        x0 = None if truth is None else truth(number)
        rows.append(of_image(data, measurement, draws[place], x0, exact))
        besides.append(exact)
    for name, values in account.items():
        for row, own in zip(rows, values, strict=True):
            row[f"algorithm/{name}"] = float(own.double().mean())
    return rows, besides


def numbers(
    problem: Problem, draws: Tensor, rows: list[Row], besides: list[Beside | None], nfe: float
) -> Row:
    """Every number of the run by name."""
    values = means(rows, besides)
    if problem.calibration:
        assert problem.asked.truth is not None
        truths = torch.stack([problem.asked.truth(number) for number in problem.asked.images])
        seed = problem.restoration.simulation.seed
        values |= calibrated(draws, truths, besides, seed)
    return values | {"sampling/nfe": nfe}
