"""Each sampler config builds its sampler, its steps and its own schedule; chart schemes step in the chart of that schedule."""
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from diffgeo.sampler import (
    DDPM,
    DPMpp2M,
    Euler,
    EulerMaruyama,
    ExponentialIntegrator,
    GradientEstimation,
    Heun,
    NoiseFirst,
    PublicCode,
    Splitting,
)
from diffgeo.schedule import OU, VE, VP
from diffgeo.spacing import Continuous, Geometric, OnGrid, Power

CONF = Path(__file__).parents[1] / "conf"
PLANE = VE(sigma_min=0.01, sigma_max=200, spacing=Geometric(), training=Continuous())
CONFIGS = {
    "euler": (Euler(), 40, PLANE),
    "heun": (Heun(), 100, PLANE),
    "ddpm": (DDPM(), 200, PLANE),
    "gradient_estimation": (GradientEstimation(gamma=2, mu=0), 40, PLANE),
    "dpmpp_2m": (DPMpp2M(), 40, PLANE),
    "euler_maruyama": (EulerMaruyama(OU()), 200, OU()),
    "exponential_integrator": (ExponentialIntegrator(OU()), 200, OU()),
    "splitting": (Splitting(last_noise=True), 200, OU()),
    "splitting_code": (PublicCode(last_noise=True), 200, OU()),
    "splitting_noise_first": (NoiseFirst(), 99, OU(t_min=0, spacing=Power(5), training=OnGrid(200))),
}


def build(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = OmegaConf.to_container(compose(overrides=list(overrides)).sampler, resolve=True)
    schedule, steps = instantiate(node.pop("schedule")), node.pop("steps")
    return instantiate(node), steps, schedule


@pytest.mark.parametrize("name", CONFIGS)
def test_config(name):
    assert build(f"+sampler={name}") == CONFIGS[name]


def test_all_configs_are_listed_here():
    assert {file.stem for file in (CONF / "sampler").glob("*.yaml")} == set(CONFIGS)


@pytest.mark.parametrize("name, scheme", [("euler_maruyama", EulerMaruyama), ("exponential_integrator", ExponentialIntegrator)])
def test_a_chart_scheme_follows_its_schedule_slot(name, scheme):
    path = VP(beta_max=10)
    assert build(f"+sampler={name}", "schedule@sampler.schedule=vp", "sampler.schedule.beta_max=10") == (scheme(path), 200, path)
