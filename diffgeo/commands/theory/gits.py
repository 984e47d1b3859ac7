"""`diffgeo theory gits`: levels planned for a model: those that lose least to Euler's rule, chosen
among a teacher's.

    diffgeo theory gits data=mixture most=10                         the exact denoiser; a teacher of 61 steps
    diffgeo theory gits run=FOLDER sampler@teacher=heun              a trained network

writes gits.json, the levels and their cost for 1 .. most steps, which every sampler takes as its
schedule:

    diffgeo sample model=exact data=mixture sampler=euler sampler.schedule=gits
    sampler.schedule.file=FOLDER/gits.json sampler.steps=10
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from diffgeo.commands.compare import markdown
from diffgeo.commands.sample import loaded
from diffgeo.commands.theory.admissibility import take_model
from diffgeo.config.kinds import plain
from diffgeo.run import assemble, begin, method, provenance
from diffgeo.store.files import write_json
from diffgeo.theory.gits import fit


def main(cfg) -> None:
    theory_gits(cfg, Path(HydraConfig.get().runtime.output_dir), HydraConfig.get().overrides.task)


def theory_gits(cfg, folder: Path, overrides: Sequence[str] = ()) -> None:
    """Plan the levels of 1 .. cfg.most steps of cfg's model into `folder`. Raises UsageError on
    more steps than the teacher has."""
    take_model(cfg, overrides)
    experiment = assemble(cfg, loaded)
    sampler, _, grid = method(cfg.teacher)
    teacher = replace(experiment.simulation, sampler=sampler, sigmas=grid)
    started = time.process_time()
    plans = fit(
        teacher,
        experiment.numbers,
        plain("most", cfg.most, int),
        plain("coeff", cfg.coeff),
        cfg.norm,
        OmegaConf.to_yaml(cfg.data).strip(),
    )
    if begin(folder, cfg, overrides):
        return
    write_json(folder / "gits.json", plans)
    provenance(
        folder,
        cfg,
        "theory gits",
        experiment.device,
        planning_cpu_s=time.process_time() - started,
        nfe=plans["nfe"],
    )
    write_json(
        folder / "metrics.json",
        {f"gits/cost@{steps}": cost for steps, cost in plans["cost"].items()},
    )
    print(
        markdown(
            ["steps", "cost", "levels"],
            [
                [steps, f"{plans['cost'][steps]:.4g}", " ".join(f"{level:.4g}" for level in levels)]
                for steps, levels in plans["levels"].items()
            ],
        )
    )
    print(
        f"written: {folder}/gits.json; sample with sampler.schedule=gits "
        f"sampler.schedule.file={folder}/gits.json"
    )
