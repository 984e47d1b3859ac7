"""Each sampler config builds its sampler, its steps and its own schedule; chart schemes step in the chart of that schedule."""
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from diffgeo.sampler import (
    DDPM,
    DEIS,
    IPNDM,
    LMS,
    PNDM,
    RK4,
    RK45,
    AnalyticVariance,
    DPMAdaptive,
    DPMpp2M,
    DPMpp2MSDE,
    DPMpp2S,
    DPMpp3M,
    DPMpp3MSDE,
    DPMppSDE,
    DPMSolver2,
    DPMSolver3,
    EDMChurn,
    Euler,
    EulerAncestral,
    EulerMaruyama,
    ExponentialIntegrator,
    GradientEstimation,
    Heun,
    IPNDMv,
    Langevin,
    NoiseFirst,
    PredictorCorrector,
    PublicCode,
    Restart,
    SASolver,
    Splitting,
    Underdamped,
    UniPC,
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
    "dpmpp_3m": (DPMpp3M(), 40, PLANE),
    "unipc": (UniPC(points=3, variant="bh2"), 40, PLANE),
    "lms": (LMS(points=4), 40, PLANE),
    "ipndm": (IPNDM(points=4), 40, PLANE),
    "ipndm_v": (IPNDMv(points=4, weights="exact"), 40, PLANE),
    "deis": (DEIS(points=3, interpolation="t"), 40, PLANE),
    "deis_rho": (DEIS(points=3, interpolation="rho"), 40, PLANE),
    "pndm": (PNDM(), 31, PLANE),
    "euler_ancestral": (EulerAncestral(eta=1), 40, PLANE),
    "edm_churn": (EDMChurn(n=20, s_churn=30, s_min=0.01, s_max=1, s_noise=1), 20, PLANE),
    "dpmpp_sde": (DPMppSDE(order=2, eta=1), 20, PLANE),
    "dpmpp_2m_sde": (DPMpp2MSDE(solver="midpoint", eta=1), 40, PLANE),
    "dpmpp_3m_sde": (DPMpp3MSDE(weights="exact", eta=1), 40, PLANE),
    "sa_solver": (SASolver(predictor=3, corrector=3, tau=1), 40, PLANE),
    "a_ddim": (AnalyticVariance(eta=0), 40, PLANE),
    "ddim": (Euler(), 40, PLANE),
    "midpoint": (DPMSolver2(r=0.5), 20, PLANE),
    "dpm_solver_2": (DPMSolver2(r=0.5), 20, PLANE),
    "dpm_solver_3": (DPMSolver3(), 14, PLANE),
    "dpmpp_2s": (DPMpp2S(r=0.5), 20, PLANE),
    "rk4": (RK4(), 11, PLANE),
    "rk45": (RK45(rtol=1e-3, atol=1e-3, h_init=0.05), 2, PLANE),
    "dpm_adaptive": (DPMAdaptive(order=3, rtol=1e-3, atol=1e-3, h_init=0.05), 2, PLANE),
    "langevin": (PredictorCorrector(Euler(), Langevin(delta=0.2, steps=1)), 20, PLANE),
    "underdamped": (PredictorCorrector(Euler(), Underdamped(time=1, steps=1, smoothness=1)), 20, PLANE),
    "restart": (Restart(Heun(), t_min=0.05, t_max=0.3, times=1, substeps=4), 16, PLANE),
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
