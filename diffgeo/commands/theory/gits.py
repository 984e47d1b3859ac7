"""`diffgeo theory gits`: a schedule fitted to a law or a run by dynamic programming over a teacher

    diffgeo theory gits data=mixture most=10                the exact denoiser
    diffgeo theory gits run=FOLDER sampler@teacher=heun     a trained network
    diffgeo theory gits data=curve coeff=1.1 norm=l1        another measure of what is lost

writes gits.json, the levels that lose least to Euler's rule, chosen among a teacher's, and their
cost, for 1 .. most steps, as every sampler takes them for its schedule.

    diffgeo sample model=exact data=mixture sampler=euler sampler.steps=10 \\
        sampler.schedule=gits sampler.schedule.file=FOLDER/gits.json
"""

from __future__ import annotations

import time
from dataclasses import replace

from omegaconf import OmegaConf

from diffgeo.config.beginning import of_schedule
from diffgeo.config.build import assemble, grid_of, method_of
from diffgeo.config.kinds import plain, step_count
from diffgeo.config.limits import part
from diffgeo.run import Job, RunFolder, loaded, take_model
from diffgeo.store.files import write_json
from diffgeo.tables import markdown
from diffgeo.theory.gits import fit


def main(cfg, job: Job) -> None:
    """Plan the levels of 1 .. cfg.most steps of cfg's model. Raises UsageError on more steps than
    the teacher has."""
    node = part(cfg, "teacher")
    take_model(cfg, job.overrides)
    experiment = assemble(cfg, loaded)
    chart, levels = grid_of(node)
    teacher = replace(
        experiment.simulation,
        sampler=method_of(node),
        sigmas=levels,
        initial=of_schedule(chart),
    )
    started = time.process_time()
    plans = fit(
        teacher,
        experiment.numbers,
        step_count("most", cfg.most),
        plain("coeff", cfg.coeff),
        cfg.norm,
        OmegaConf.to_yaml(cfg.data).strip(),
    )
    folder = RunFolder.of("theory gits", cfg, job)
    if folder.begin():
        return
    spent = time.process_time() - started
    costs = plans["cost"]
    write_json(job.path / "gits.json", plans)
    values = {f"gits/cost@{steps}": cost for steps, cost in costs.items()}
    folder.finish(values, experiment.device, planning_cpu_s=spent, nfe=plans["nfe"])
    rows = []
    for steps, levels in plans["levels"].items():
        shown = " ".join(f"{level:.4g}" for level in levels)
        rows.append([steps, f"{costs[steps]:.4g}", shown])
    print(markdown(["steps", "cost", "levels"], rows))
    print(
        f"written: {job.path}/gits.json; sample with sampler.schedule=gits "
        f"sampler.schedule.file={job.path}/gits.json"
    )
