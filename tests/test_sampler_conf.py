"""Each sampler config builds its sampler, its steps and its own schedule; chart schemes step in the
chart of that schedule."""

from dataclasses import replace
from inspect import signature

import pytest
from configs import composed, every
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf

from diffgeo.config.named import names
from diffgeo.sampler import (
    DDPM,
    DEIS,
    DPUM,
    IPNDM,
    LMS,
    PLMS,
    PNDM,
    RK4,
    RK45,
    AnalyticVariance,
    ChartEuler,
    ChartHeun,
    ChartRK4,
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
from diffgeo.sampler.base import Method
from diffgeo.schedule import OU, VE, VP
from diffgeo.schedule.spacing import Continuous, Geometric, OnGrid, Power
from diffgeo.schedule.stages import Stages

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
    "plms": (PLMS(), 39, PLANE),
    "unipc_2": (UniPC(points=2, variant="bh2"), 40, PLANE),
    "euler_ancestral": (EulerAncestral(eta=1), 40, PLANE),
    "edm_churn": (EDMChurn(n=None, s_churn=30, s_min=0.01, s_max=1, s_noise=1), 20, PLANE),
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
    "langevin": (PredictorCorrector(Euler(), Langevin(delta=0.2, steps=1), chart=PLANE), 20, PLANE),
    "underdamped": (
        PredictorCorrector(Euler(), Underdamped(time=1, steps=1, smoothness=1), chart=PLANE),
        20,
        PLANE,
    ),
    "predictor_corrector": (
        PredictorCorrector(ExponentialIntegrator(OU()), Underdamped(time=1, steps=1, smoothness=1)),
        100,
        OU(),
    ),
    "dpum": (DPUM(Stages(L=4, h_pred=0.05), h_corr=None), None, Stages(t_max=6, t_min=0.01)),
    "restart": (Restart(Heun(), t_min=0.05, t_max=0.3, times=1, substeps=4), 16, PLANE),
    "euler_maruyama": (EulerMaruyama(OU()), 200, OU()),
    "exponential_integrator": (ExponentialIntegrator(OU()), 200, OU()),
    "chart_euler": (ChartEuler(OU()), 100, OU()),
    "chart_heun": (ChartHeun(OU()), 50, OU()),
    "chart_rk4": (ChartRK4(OU()), 25, OU()),
    "splitting": (Splitting(last_noise=True), 200, OU()),
    "splitting_code": (PublicCode(last_noise=True), 200, OU()),
    "splitting_noise_first": (
        NoiseFirst(),
        99,
        OU(t_min=0, spacing=Power(5), training=OnGrid(200)),
    ),
}


def build(*overrides):
    return built(composed(None, *overrides).sampler)


def built(config):
    """(sampler, steps, schedule) of a config of the group."""
    node = OmegaConf.to_container(config, resolve=True)
    schedule = instantiate(node.pop("schedule"))
    steps = node.pop("steps")
    return instantiate(node), steps, schedule


@pytest.mark.parametrize("name", names("sampler"))
def test_config(name):
    """A config builds its method, each option as it stands there, a count of steps and a schedule
    that lays them; where CONFIGS has it, exactly these."""
    node = every("sampler")[name]
    sampler, steps, schedule = built(node)
    assert isinstance(sampler, Method) and isinstance(sampler, get_object(node._target_))
    for option, value in node.items():
        if option in ("_target_", "steps", "schedule"):
            continue
        expected = instantiate(value) if isinstance(value, DictConfig) else value
        assert getattr(sampler, option) == expected, option
    sigmas = schedule.grid(steps)
    assert bool((sigmas.diff() < 0).all()) and sigmas[-1] >= 0
    assert isinstance(sampler.on(sigmas), Method)
    if name in CONFIGS:
        assert (sampler, steps, schedule) == CONFIGS[name]


def test_the_configs_that_are_expected_exist():
    assert set(CONFIGS) <= set(names("sampler"))


@pytest.mark.parametrize(
    "name, scheme",
    [("euler_maruyama", EulerMaruyama), ("exponential_integrator", ExponentialIntegrator)],
)
def test_a_chart_scheme_follows_its_schedule_slot(name, scheme):
    path = VP(beta_max=10)
    assert build(
        f"+sampler={name}", "schedule@sampler.schedule=vp", "sampler.schedule.beta_max=10"
    ) == (scheme(path), 200, path)


# options that a config need not list, and why
LEFT_OUT = {
    # a table that is measured on the law before sampling
    ("AnalyticVariance", "levels"),
    ("AnalyticVariance", "variances"),
    ("Continuous", "spacing"),  # the path's own, which is listed beside it
    ("VE", "training"),  # of a path inside Laid: nothing is drawn there
}


def unlisted(node) -> set[tuple[str, str]]:
    """(class, option) of every parameter that a config, or a node below it, does not name."""
    if not isinstance(node, DictConfig):
        return set()
    target = get_object(node["_target_"])
    missing = {
        (target.__name__, name)
        for name, p in signature(target).parameters.items()
        if p.kind != p.VAR_KEYWORD and name not in node
    }
    return missing.union(*(unlisted(child) for child in node.values()))


def test_every_option_of_every_sampler_and_schedule_is_in_its_config():
    """So that it can be typed: Hydra takes no option that is not there."""
    samplers = {name: unlisted(node) for name, node in every("sampler").items()}
    schedules = {
        name: unlisted(node) for name, node in every("schedule", "folder.folder=null").items()
    }
    assert len(samplers) + len(schedules) > 60
    for group in (samplers, schedules):
        beyond = {name: options - LEFT_OUT for name, options in group.items()}
        assert {name: options for name, options in beyond.items() if options} == {}
    assert samplers["a_ddim"] >= {("AnalyticVariance", "levels"), ("AnalyticVariance", "variances")}
    assert ("VE", "training") in unlisted(every("schedule")["ge_edm"].timesteps)
    others = [options for name, options in schedules.items() if name != "ge_edm"]
    assert ("VE", "training") not in set().union(*others)


@pytest.mark.parametrize("name", ["deis", "deis_rho", "pndm"])
def test_the_time_of_a_sampler_is_a_schedule_of_its_own(name):
    through = VP.through(0.002, 80, spacing=Power(2), to_zero=False)
    sampler, steps, schedule = build(
        f"+sampler={name}", "schedule@sampler.chart=time_uniform", "sampler.chart.sigma_max=80"
    )
    assert sampler == replace(CONFIGS[name][0], chart=through) and schedule == PLANE


def test_options_that_were_missing_can_be_typed():
    assert build("+sampler=unipc", "sampler.corrector=false")[0] == UniPC(corrector=False)
    assert build("+sampler=sa_solver", "sampler.tau_min=0.05", "sampler.tau_max=1")[0] == SASolver(
        tau_min=0.05, tau_max=1
    )
    assert build("+sampler=dpmpp_sde", "sampler.r=0.3")[0] == DPMppSDE(r=0.3)
    assert build("+sampler=dpum", "sampler.steps=48", "sampler.schedule.L=9", "sampler.h_corr=0.1")[
        0
    ] == DPUM(Stages(L=9), 0.1)
    assert build("+sampler=a_ddim", "sampler.n=100")[0] == AnalyticVariance(n=100)
