"""`diffgeo trajectory distill`: what six methods of distillation want of one teacher, and students

    diffgeo trajectory distill data=points8                     the exact denoiser teaches
    diffgeo trajectory distill run=FOLDER                       a network does; its law is the run's
    diffgeo trajectory distill data=digits pairs=2048 methods=KD,CD
    diffgeo trajectory distill data=mixture methods=[]          the geometry alone, without training

prints where the targets of KD, DFNO, reflow, PD, CD and CT lie against the chord of the teacher's
path, and then what a small network makes of each after the same number of updates, at 1, 2 and 4
evaluations, beside what the teacher does with as many itself. targets.csv and students.csv hold
every number.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from diffgeo.commands.trajectory.told import grid_name
from diffgeo.config.build import Experiment, assemble, build
from diffgeo.config.kinds import choices, whole
from diffgeo.config.limits import part
from diffgeo.config.prompted import check_law
from diffgeo.config.titles import law_name, model_name
from diffgeo.core import ImageSet
from diffgeo.geometry.distillation import Place, check, lies_on, placed, targets
from diffgeo.geometry.lessons import School
from diffgeo.geometry.students import METHODS, Answers, Class, answers, check_trainer
from diffgeo.metrics.coupled import Numbers, beside, reference, truth
from diffgeo.plot.geometry import students as pictures
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.store.files import write_text
from diffgeo.tables import csv_text, markdown

PATHS = 256  # that the geometry looks at, where paths=null
FEW = 5.0  # deviations of the law in the teacher's highest level, below which that is said
# clouds that a picture leaves out: one evaluation of the jump is Euler's, and with 8 both are done
UNSEEN = (("jump", 1), ("Euler", 8), ("jump", 8))
NUMBERS = ("coupled", "distance", "w2", "w2_counts", "chi2")


def main(cfg, job: Job) -> None:
    """Lay out the targets, train cfg.methods for cfg.updates updates each, and compare."""
    take_model(cfg, job.overrides)
    told = cfg.label is not None
    cfg.label = None
    experiment = assemble(cfg, loaded)
    check_law(experiment.data)
    simulation = experiment.simulation
    n = len(experiment.numbers)
    methods = choices("methods", cfg.methods, METHODS)
    paths = min(n, PATHS) if cfg.paths is None else whole("paths", cfg.paths, 1, n)
    whole("updates", cfg.updates, 1, 10**7)
    pairs = whole("pairs", cfg.pairs, 1, 10**7)
    check(simulation)
    trainer = build(part(cfg, "student"))
    check_trainer(trainer, methods)
    school = School(simulation, experiment.data, pairs, experiment.numbers.stop)
    about = Class(build(cfg.net), trainer, cfg.sigma_data, cfg.seed)
    folder = RunFolder.of("trajectory distill", cfg, job)
    if folder.begin():
        return
    started = time.process_time()
    if told or experiment.data.classes:
        print("labels are ignored: teacher and students are told no class")

    places = {}
    shown = list(targets(simulation, experiment.data, experiment.numbers[:paths]))
    for target in shown:
        places.setdefault(target.method, []).append(placed(target))
    laid = time.process_time()

    drawn = simulation.draw(experiment.numbers, experiment.sampling.batch)
    found = answers(school, about, lambda: simulation.start(experiment.numbers), methods)
    taught = time.process_time()

    law = reference(experiment.data, n, simulation.seed)
    teacher = Answers("teacher", round(drawn.nfe), drawn.samples, 0, round(drawn.nfe) * n)
    rows = [teacher, *found]
    measured = [beside(row.samples, drawn.samples, experiment.data, law) for row in rows]
    floor, spread = truth(drawn.samples, experiment.data, simulation.seed)

    write_text(job.path / "targets.csv", targets_csv(places))
    write_text(job.path / "students.csv", students_csv(rows, measured, floor, spread, cfg.seed))
    if cfg.figures:
        pictures.targets(job.path / "figures" / "targets.png", pictured(shown), experiment.data)
        draw_samples(job.path / "figures" / "students.png", experiment, rows, measured)
    values = of_places(places) | of_rows(rows, measured) | of_truth(floor, spread)
    times = {"geometry_cpu_s": laid - started, "students_cpu_s": taught - laid}
    folder.finish(values, experiment.device, **times)

    print(title(cfg, job, experiment, round(drawn.nfe)))
    print(markdown(*places_table(places)))
    print(markdown(*students_table(rows, measured, floor, spread)))
    if methods:
        print(f"each student: {trainer.steps} updates of batch {trainer.batch}, seed {cfg.seed}")
    print(what_to_see(rows, measured, floor, spread))
    drawn_too = ", figures/" if cfg.figures else ""
    print(f"written: {job.path}/metrics.json, targets.csv, students.csv{drawn_too}")


def title(cfg, job: Job, experiment: Experiment, nfe: int) -> str:
    """What the numbers are of."""
    kind = model_name(experiment.model, cfg)
    simulation = experiment.simulation
    law = law_name(experiment.data, cfg, job.overrides)
    text = (
        f"teacher: {kind} denoiser of {law}, {type(simulation.sampler).__name__}, "
        f"{grid_name(experiment.chart, simulation.sigmas)}, {nfe} evaluations, chart ve; "
        f"n = {len(experiment.numbers)}"
    )
    top = simulation.highest
    if top < FEW * experiment.data.std:
        text += (
            f"\nIts paths begin at noise {top:g}, {top / experiment.data.std:.2g} deviations of "
            f"the law: write sampler.schedule.sigma_max={10 * experiment.data.std:.3g} or more"
        )
    return text


# the geometry


def worst(places: Sequence[Place]) -> Place:
    """The level at which the targets are farthest from the chord, in shares of it: a ratio of
    means."""
    return max(places, key=lambda place: share(place))


def share(place: Place) -> float:
    return float(place.off_chord.mean() / place.chord.mean())


def distances(place: Place) -> dict[str, Tensor]:
    return {
        "off_chord": place.off_chord,
        "off_sampling": place.off_sampling,
        "off_denoising": place.off_denoising,
        "off_end": place.off_end,
        "chord": place.chord,
    }


def sd(values: Tensor) -> float | None:
    return float(values.std()) if len(values) > 1 else None


def places_table(places: dict[str, list[Place]]) -> tuple[list[str], list[list[str]]]:
    header = ["target of", "lies on", "at sigma", "off the chord", "/ chord"]
    header += ["off the sampling path", "off the denoising path"]
    rows = []
    for method, levels in places.items():
        place = worst(levels)
        row = [method, lies_on(levels), f"{place.level:.3g}", spread_of(place.off_chord)]
        row += [cell(share(place))]
        row += [spread_of(values) for values in (place.off_sampling, place.off_denoising)]
        rows.append(row)
    return header, rows


def spread_of(values: Tensor) -> str:
    spread = sd(values)
    return cell(float(values.mean())) + ("" if spread is None else f" +- {cell(spread)}")


def targets_csv(places: dict[str, list[Place]]) -> str:
    """Every level of every method, at full precision."""
    header = ["method", "lies_on", "sigma", "quantity", "mean", "sd", "n"]
    rows = []
    for method, levels in places.items():
        on = lies_on(levels)
        for place in levels:
            for name, values in distances(place).items():
                spread = sd(values)
                told = "" if spread is None else repr(spread)
                row = [method, on, repr(place.level), name, repr(float(values.mean())), told]
                rows.append([*row, str(len(values))])
    return csv_text(header, rows)


def of_places(places: dict[str, list[Place]]) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for method, levels in places.items():
        place = worst(levels)
        key = f"targets/{named(method)}"
        values[f"{key}/sigma"] = place.level
        values[f"{key}/share_of_chord"] = share(place)
        for name, found in distances(place).items():
            values[f"{key}/{name}"] = float(found.mean())
            values[f"{key}/{name}_sd"] = sd(found)
    return values


def named(method: str) -> str:
    """A method as it stands in a key."""
    return method.replace(", ", "_")


def pictured(shown: Sequence) -> list:
    """Of each method what is to be seen on its first path: every level of DFNO; of the others one,
    at which a path still has some way to go."""
    by_method: dict[str, list] = {}
    for target in shown:
        by_method.setdefault(target.method, []).append(target)
    panels = []
    for method, found in by_method.items():
        chosen = found if method == "DFNO" else [found[len(found) // 4]]
        answer = [target.answer[0] for target in chosen]
        way = chosen[0].path
        panels.append(pictures.Panel(method, way.x[:, 0], way.denoised[:, 0], answer))
    return panels


# the students


def students_table(
    rows: Sequence[Answers], measured: Sequence[Numbers], floor: Numbers, spread: Numbers
) -> tuple[list[str], list[list[str]]]:
    """A line a method, its numbers in the order of its evaluations."""
    header = ["from one noise", "NFE", "rms to the teacher", "off the support", "W2"]
    header += ["W2 of its counts", "chi2", "teacher asked"]
    by_method: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_method.setdefault(row.method, []).append(number)
    table = []
    for method, own in by_method.items():
        line = [method, " / ".join(str(rows[number].nfe) for number in own)]
        for key in NUMBERS:
            line.append(cells([measured[number][key] for number in own]))
        table.append([*line, f"{max(rows[number].teacher for number in own):.3g}"])
    truths = []
    for key in NUMBERS:
        about = spread[key]
        truths.append(cell(floor[key]) + ("" if about is None else f" +- {about:.2g}"))
    table.append(["true samples", "", *truths, ""])
    return header, table


def cells(values: Sequence[float | None]) -> str:
    """Those of one method; one dash where none has a value."""
    if all(value is None for value in values):
        return "-"
    return " / ".join(cell(value) for value in values)


def cell(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if abs(value) < 5e-5 else f"{value:.3g}"


def students_csv(
    rows: Sequence[Answers],
    measured: Sequence[Numbers],
    floor: Numbers,
    spread: Numbers,
    seed: int,
) -> str:
    """A row a cloud, at full precision; the last two are true samples, their mean and spread."""
    header = ["method", "nfe", *NUMBERS, "updates", "teacher_evaluations", "seed", "n"]
    lines = []
    for row, numbers in zip(rows, measured, strict=True):
        line = [row.method, str(row.nfe), *(exact(numbers[key]) for key in NUMBERS)]
        lines.append([*line, str(row.updates), str(row.teacher), str(seed), str(len(row.samples))])
    n = str(len(rows[0].samples))
    for name, numbers in (("true samples", floor), ("true samples, sd", spread)):
        lines.append([name, "", *(exact(numbers[key]) for key in NUMBERS), "", "", str(seed), n])
    return csv_text(header, lines)


def exact(value: float | None) -> str:
    return "" if value is None else repr(value)


def of_rows(rows: Sequence[Answers], measured: Sequence[Numbers]) -> dict[str, float | None]:
    values = {}
    for row, numbers in zip(rows, measured, strict=True):
        for key in NUMBERS:
            values[f"students/{row.method}@{row.nfe}/{key}"] = numbers[key]
    return values


def of_truth(floor: Numbers, spread: Numbers) -> dict[str, float | None]:
    values = {f"students/truth/{key}": floor[key] for key in NUMBERS}
    return values | {f"students/truth/{key}_sd": spread[key] for key in NUMBERS}


def what_to_see(
    rows: Sequence[Answers], measured: Sequence[Numbers], floor: Numbers, spread: Numbers
) -> str:
    """The teacher's own jump against the students, and what W2 says where it should not."""
    by_name = {}
    for row, numbers in zip(rows, measured, strict=True):
        by_name[f"{row.method}@{row.nfe}"] = numbers
    teacher = measured[0]
    jump = by_name["jump@2"]
    students = {
        name: numbers for name, numbers in by_name.items() if name.partition("@")[0] in METHODS
    }
    about = "" if spread["w2"] is None else f" +- {spread['w2']:.2g}"
    lines = [
        f"The teacher's own jump, 2 evaluations and no training: {cell(jump['distance'])} off the "
        f"support, rms {cell(jump['coupled'])}{counts(jump, floor)}.",
        f"W2 of the teacher {cell(teacher['w2'])}, of its counts alone "
        f"{cell(teacher['w2_counts'])}; of true samples {cell(floor['w2'])}{about}.",
    ]
    if not students:
        return "\n".join(lines)
    closer = [name for name, own in students.items() if own["coupled"] < jump["coupled"]]
    lines[0] += f" Students nearer to the teacher: {', '.join(closer) or 'none'}."
    before = [name for name, own in students.items() if own["w2"] < teacher["w2"]]
    if before:
        best = min(before, key=lambda name: students[name]["w2"])
        own = students[best]
        lines[1] += (
            f" It puts {len(before)} of {len(students)} clouds of students before the teacher, "
            f"{best} first ({cell(own['w2'])}, {cell(own['distance'])} off the support): read it "
            "beside the others."
        )
    return "\n".join(lines)


def counts(jump: Numbers, floor: Numbers) -> str:
    """The counts of the jump, which can be near the support and all in one place."""
    if jump["chi2"] is None:
        return ""
    return f", chi2 {cell(jump['chi2'])} (true samples {cell(floor['chi2'])})"


def draw_samples(
    path: Path, experiment: Experiment, rows: Sequence[Answers], measured: Sequence[Numbers]
) -> None:
    """The clouds of teacher and students; of images, the first ones."""
    data = experiment.data
    clouds = []
    for row, numbers in zip(rows, measured, strict=True):
        if (row.method, row.nfe) in UNSEEN:
            continue
        clouds.append(
            pictures.Cloud(
                row.method, row.nfe, row.samples, numbers["distance"], numbers["coupled"]
            )
        )
    if isinstance(data, ImageSet):
        pictures.images(path, clouds, data)
    else:
        pictures.clouds(path, clouds, data)
