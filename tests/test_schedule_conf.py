"""Each schedule config builds what its first line promises, and its default grid is fit to sample
on."""

import json
import math

import pytest
import torch
from configs import composed, every
from hydra.utils import instantiate

from diffgeo.sampler import Heun, steps
from diffgeo.schedule import OU, VE, VP, Cosine, Flow
from diffgeo.schedule.discrete import (
    CosineBetas,
    Discrete,
    EvenTimesteps,
    Laid,
    LogLinear,
    ScaledLinearBetas,
    SigmoidBetas,
)
from diffgeo.schedule.listed import Levels, Planned
from diffgeo.schedule.of_diffusers import Spaced
from diffgeo.schedule.spacing import (
    Beta,
    Continuous,
    Exponential,
    ExponentialDecay,
    Geometric,
    LogNormal,
    OnGrid,
    Polyexponential,
    Power,
    UniformTimes,
)
from diffgeo.schedule.stages import Stages

CONFIGS = {
    "ou": OU(),
    "ou_paper": OU(training=UniformTimes(200)),
    "ou_grid": OU(training=OnGrid(200)),
    "ou_quadratic": OU(t_min=0, spacing=Power(2), training=OnGrid(200)),
    "ou_linear": OU(t_min=0, spacing=Power(1), training=OnGrid(200)),
    "ou_power": OU(t_min=0, spacing=Power(5), training=OnGrid(200)),
    "ou_decay": VP(
        t_min=1e-4, t_max=6, beta_min=2, beta_max=2, spacing=ExponentialDecay(), to_zero=False
    ),
    "stages": Stages(),
    "vp": VP(),
    "ve": VE(sigma_min=0.01, sigma_max=50, spacing=Exponential(), training=Continuous()),
    "karras": VE(training=Continuous(Geometric())),
    "trajectory": VE(training=Continuous(Geometric()), to_zero=False),
    "plane": VE(sigma_min=0.01, sigma_max=200, spacing=Geometric(), training=Continuous()),
    "plane_fine": VE(sigma_min=0.002, sigma_max=150, spacing=Geometric(), training=Continuous()),
    "plane_wide": VE(sigma_min=0.02, sigma_max=400, spacing=Geometric(), training=Continuous()),
    "loglinear": VE(spacing=Exponential(), training=Continuous()),
    "cosine": Cosine(),
    "flow": Flow(),
    "edm": VE(training=LogNormal(-1.2, 1.2)),
    "images": VE(training=LogNormal(-0.3, 1.7)),
    "logsnr": VE(spacing=Geometric(), training=Continuous(), to_zero=False),
    "exponential": VE(spacing=Exponential(), training=Continuous()),
    "polyexponential": VE(spacing=Polyexponential(1), training=Continuous()),
    "time_uniform": VP.through(0.002, 80, spacing=Power(2), to_zero=False),
    "beta": VP(spacing=Beta(0.6, 0.6)),
    "ddim": Discrete(timesteps=EvenTimesteps()),
    "ddim_offset": Discrete(timesteps=EvenTimesteps(40)),
    "ddpm": Discrete(),
    "ldm": Discrete(betas=ScaledLinearBetas()),
    "sigmoid": Discrete(betas=SigmoidBetas()),
    "cosine_discrete": Discrete(betas=CosineBetas()),
    "ge_loglinear": Discrete(timesteps=LogLinear(40, 0.5)),
    "ge_loglinear_ldm": Discrete(betas=ScaledLinearBetas(), timesteps=LogLinear(8.35, 0)),
    "ldm_leading": Discrete(betas=ScaledLinearBetas(), timesteps=Spaced("leading", 1, 0)),
    "ldm_linspace": Discrete(betas=ScaledLinearBetas(), timesteps=Spaced("linspace", 0, -1)),
    "ge_edm": Discrete(timesteps=Laid(VE(to_zero=False))),
    "levels": Levels(sigmas=[80, 10, 1, 0]),
}


def test_every_config_builds_the_schedule_its_first_line_promises(tmp_path):
    plan = tmp_path / "gits.json"
    plan.write_text(json.dumps({"levels": {"1": [80, 0.5]}}))
    # options without a default
    (tmp_path / "scheduler_config.json").write_text(json.dumps({"timestep_spacing": "linspace"}))
    needs = (
        "levels.sigmas=[80,10,1,0]",
        f"gits.file={plan}",
        f"diffusers.folder={tmp_path}",
        f"folder.folder={tmp_path}",
    )
    built = {name: instantiate(node) for name, node in every("schedule", *needs).items()}
    slots = composed(
        None,
        "+schedule=ou",
        "+sampler=splitting",
        "schedule.t_max=8",
        "schedule@sampler.schedule=karras",
        "sampler.schedule.sigma_max=148",
    )
    read = {
        "gits": Planned(file=str(plan)),
        "diffusers": Discrete(timesteps=Spaced("linspace", offset=0, end=-1)),
        "folder": Discrete(timesteps=Spaced("linspace", offset=0, end=-1)),
    }
    assert built == CONFIGS | read
    assert instantiate(slots.schedule) == OU(t_max=8)
    assert instantiate(slots.sampler.schedule) == VE(
        sigma_max=148, training=Continuous(Geometric())
    )


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "levels"])
def test_every_schedule_samples(name):
    """Heun on N(0, 1), whose flow is x sqrt((1 + s^2)/(1 + s_0^2)), down the 100 steps of the
    default grid."""
    grid = CONFIGS[name].grid(100)
    *_, last = steps(Heun(), lambda x, sigma: x / (1 + sigma**2), torch.ones(1, 1), grid, None)
    assert float(last.x) == pytest.approx(
        math.sqrt((1 + last.sigma**2) / (1 + float(grid[0]) ** 2)), rel=0.05
    )
