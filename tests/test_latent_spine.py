"""What latent diffusion asks of the rooms below it: the grids of diffusers' schedulers, the start
of a discrete schedule in its chart, and the tie of gradient estimation's own grid."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from configs import composed
from test_plms import LDM, apart, denoise, ours, theirs, unit

from diffgeo.commands.theory.restoration import start_on
from diffgeo.config.beginning import beginning
from diffgeo.config.build import assemble, build
from diffgeo.config.prompted import check_loop
from diffgeo.config.stepping import same_grid
from diffgeo.core import generator
from diffgeo.data.gaussian import Gaussian
from diffgeo.errors import UsageError
from diffgeo.metrics.budget.metric import Budget
from diffgeo.sampler import (
    LMS,
    ChartHeun,
    DPMpp2M,
    Euler,
    Heun,
    PredictorCorrector,
    Uncorrected,
    steps,
)
from diffgeo.schedule import VE
from diffgeo.schedule.discrete import Discrete, EvenTimesteps, LogLinear, ScaledLinearBetas
from diffgeo.schedule.of_diffusers import FromNoise, Spaced, SpacedLevels
from diffgeo.schedule.scheduler_config import NAME, folder_schedule, read_scheduler
from diffgeo.simulation import Loop, Simulation
from diffgeo.simulation.initial import InChart, Own, Prior

NORMAL = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
LEVELS = Discrete(betas=ScaledLinearBetas())


def written(folder, **config):
    (folder / NAME).write_text(json.dumps(config))
    return folder_schedule(str(folder))


# the levels and the timesteps, as latent.md prints them


def test_the_levels_of_latent_diffusion():
    printed = {0: 0.0291672, 1: 0.0413144, 101: 0.346187, 201: 0.57405}
    printed |= {501: 1.62369, 901: 8.39068, 981: 13.1204, 999: 14.6146}
    for t, sigma in printed.items():
        # the library's float32 abar, of which some are, is wrong by 1.3e-5 in sigma_0
        assert float(LEVELS.levels[t]) == pytest.approx(sigma, rel=2e-5), t


@pytest.mark.parametrize(
    "name, n, times",
    [
        ("ldm_leading", 10, [*range(901, 0, -100), 0]),
        ("ldm_leading", 7, [853, 711, 569, 427, 285, 143, 1, 0]),
        ("ldm_leading", 50, [*range(981, 0, -20), 0]),
        ("ldm", 10, [*range(999, 98, -100), 0]),
        ("ldm_linspace", 10, [999, 888, 777, 666, 555, 444, 333, 222, 111, 0, -1]),
        ("ge_loglinear_ldm", 5, [901, 760, 588, 388, 201, 0]),
        ("ge_loglinear_ldm", 10, [901, 830, 751, 663, 566, 461, 353, 252, 166, 101, 0]),
    ],
)
def test_the_timesteps_of_a_config(name, n, times):
    schedule = build(composed(None, f"+schedule={name}").schedule)
    assert schedule.times(n).tolist() == times
    assert schedule.grid(n).tolist() == schedule.sigma(torch.tensor(times).double()).tolist()


def test_gradient_estimation_s_style_ddim():
    """Equal steps from 8.35: latent.md, A4."""
    schedule = replace(LEVELS, timesteps=EvenTimesteps(8.35))
    assert schedule.times(10).tolist() == [901, 810, 720, 630, 540, 450, 360, 270, 180, 90, 0]


@pytest.mark.parametrize("n, up, published", [(5, 201, 201), (10, 101, 100), (20, 51, 51)])
def test_the_tie_of_the_next_to_last_level(n, up, published):
    """It is sigma(1000//N), a trained level, which `up` takes one higher; their float32 sum falls
    below it at N = 10. What that changes is 1e-4."""
    schedule = replace(LEVELS, timesteps=LogLinear(8.35, 0))
    times = schedule.times(n)
    assert times[-2] == up == 1000 // n + 1
    other = times.clone()
    other[-2] = published
    ends = [ours(Euler(), schedule.sigma(t))[-1] for t in (times, other)]
    assert (up == published and apart(*ends) == 0) or 1e-6 < apart(*ends) < 1e-3


# the grid of a scheduler_config.json

KINDS = (
    "DDIMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "EulerDiscreteScheduler",
    "LMSDiscreteScheduler",
)
ENDED = {
    "DDIMScheduler": {"set_alpha_to_one": False},
    "PNDMScheduler": {"set_alpha_to_one": True},
    "DPMSolverMultistepScheduler": {"final_sigmas_type": "sigma_min"},
    "UniPCMultistepScheduler": {"final_sigmas_type": "sigma_min"},
    "EulerDiscreteScheduler": {"final_sigmas_type": "sigma_min"},
}


def levels_of(scheduler, n):
    """The levels that a scheduler of diffusers' goes down, of its own float32 tables."""
    scheduler.set_timesteps(n)
    abar = scheduler.alphas_cumprod.double()
    table = torch.sqrt((1 - abar) / abar)
    if hasattr(scheduler, "sigmas"):
        return scheduler.sigmas.double()
    times = torch.unique_consecutive(scheduler.timesteps)
    last = torch.zeros(1) if scheduler.final_alpha_cumprod == 1 else table[:1]
    return torch.cat([table[times], last.double()])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spacing", [None, "leading", "trailing", "linspace"])
def test_the_grid_is_that_of_the_class(tmp_path, kind, spacing):
    """Each class's own timesteps and last level, those it has by default among them."""
    diffusers = pytest.importorskip("diffusers")
    for ended in ({}, ENDED.get(kind, {})):
        config = LDM | ended | ({"timestep_spacing": spacing, "steps_offset": 1} if spacing else {})
        if kind == "PNDMScheduler":
            config["skip_prk_steps"] = True
        scheduler = getattr(diffusers, kind)(**config)
        grid = written(tmp_path, **config, _class_name=kind)
        for n in (2, 7, 10, 50):
            # a last step from t = 0 to t = 0, which some settings have, is none
            expected = torch.unique_consecutive(levels_of(scheduler, n))
            torch.testing.assert_close(grid.grid(n), expected, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "LMSDiscreteScheduler"])
@pytest.mark.parametrize("spacing", ["leading", "linspace"])
def test_karras_levels_of_euler_and_lms(tmp_path, kind, spacing):
    diffusers = pytest.importorskip("diffusers")
    config = LDM | {"timestep_spacing": spacing, "steps_offset": 1, "use_karras_sigmas": True}
    scheduler = getattr(diffusers, kind)(**config)
    grid = written(tmp_path, **config, _class_name=kind)
    for n in (2, 10, 30):
        torch.testing.assert_close(grid.grid(n), levels_of(scheduler, n), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "kind, config, says",
    [
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, "use_karras_sigmas=true: DPM"),
        ("EulerDiscreteScheduler", {"use_beta_sigmas": True}, "use_beta_sigmas=true: diffgeo does"),
        ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}, 'type="log_linear"'),
        (
            "EulerDiscreteScheduler",
            {"final_sigmas_type": "last"},
            'final_sigmas_type="last": it is',
        ),
        ("DPMSolverMultistepScheduler", {"lambda_min_clipped": -5.1}, "lambda_min_clipped=-5.1"),
        ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}, "use_lu_lambdas=true"),
        ("PNDMScheduler", {"set_alpha_to_one": 0}, "set_alpha_to_one=0: write true or false"),
        ("EulerAncestralDiscreteScheduler", {}, "is of EulerAncestralDiscreteScheduler, whose"),
    ],
)
def test_a_grid_that_is_not_laid_is_refused_by_the_key(tmp_path, kind, config, says):
    with pytest.raises(UsageError, match=says) as caught:
        written(tmp_path, **config, _class_name=kind)
    assert "\n" not in str(caught.value) and NAME in str(caught.value)


def test_what_dpm_solver_writes_where_it_clips_nothing_is_read(tmp_path):
    """Their save_config writes -inf as a bare word of its own, or as a string."""
    diffusers = pytest.importorskip("diffusers")
    diffusers.DPMSolverMultistepScheduler(**LDM).save_config(tmp_path)
    assert "lambda_min_clipped" in json.loads((tmp_path / NAME).read_text())
    assert folder_schedule(str(tmp_path)).timesteps == Spaced("linspace", 0, -1, ahead=True)


def test_a_grid_is_the_folder_s_own_or_not(tmp_path):
    (tmp_path / NAME).write_text(json.dumps(LDM | {"_class_name": "PNDMScheduler"}))
    asked = read_scheduler(tmp_path)
    theirs = folder_schedule(str(tmp_path)).grid(10)
    assert len(theirs) == 10  # the tenth step is from t = 0 to t = 0
    assert same_grid(asked, theirs) and not same_grid(asked, theirs[1:])
    assert not same_grid(asked, LEVELS.grid(10))


def test_timesteps_that_there_are_not():
    for bad, says in (
        ({"spacing": "even"}, "spacing=even: write leading, trailing, linspace"),
        ({"offset": -1}, "offset=-1: write a whole number from 0"),
        ({"end": 5}, "end=5: write -1"),
    ):
        with pytest.raises(UsageError, match=says):
            Spaced(**bad)
    offset = replace(LEVELS, timesteps=Spaced("leading", 50))
    with pytest.raises(UsageError, match="timestep 1000 of 1000; write another number of steps"):
        offset.grid(20)
    assert float(offset.times(21)[0]) == 990


# runs of diffusers' own schedulers, from the same noise


@pytest.mark.parametrize(
    "kind, sampler",
    [
        ("DDIMScheduler", Euler()),
        ("DPMSolverMultistepScheduler", DPMpp2M()),
    ],
)
def test_a_run_from_the_chart_s_noise_is_that_of_the_scheduler(tmp_path, kind, sampler):
    diffusers = pytest.importorskip("diffusers")
    clip = {"clip_sample": False} if kind == "DDIMScheduler" else {}
    scheduler = getattr(diffusers, kind)(**LDM, **clip)
    grid = written(tmp_path, **LDM, _class_name=kind).grid(10)
    found = ours(sampler, grid)[-1]
    assert apart(found, theirs(scheduler, 10)[-1]) < 2e-5
    # the start that a plain sampler has elsewhere is another result
    *_, last = steps(sampler, denoise, unit() * grid[0], grid, None)
    assert apart(last.x, found) > 1e-4


@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize(
    "kind, sampler", [("EulerDiscreteScheduler", Euler()), ("LMSDiscreteScheduler", LMS())]
)
def test_euler_and_lms_of_the_library_keep_x_itself(tmp_path, kind, sampler, spacing):
    """They start from sigma noise on linspace, and in the chart on leading timesteps."""
    diffusers = pytest.importorskip("diffusers")
    config = LDM | {"timestep_spacing": spacing, "steps_offset": 1}
    scheduler = getattr(diffusers, kind)(**config)
    scheduler.set_timesteps(10)
    x = unit() * float(scheduler.init_noise_sigma)
    for k, t in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[k])
        scheduler.scale_model_input(x, t)
        x = scheduler.step((x - denoise(x, sigma)) / sigma, t, x).prev_sample.double()
    schedule = written(tmp_path, **config, _class_name=kind)
    sigmas = schedule.grid(10)
    start = beginning(composed("sample"), None, sampler, schedule, sigmas)
    begin = sampler.start if start.initial is None else start.initial
    *_, last = steps(sampler, denoise, begin(unit(), float(sigmas[0])), sigmas, None)
    assert apart(last.x, x) < 2e-5
    assert isinstance(schedule, FromNoise) == (spacing == "linspace")


# the start


def begins(schedule, sampler=None, **options):
    cfg = composed("sample", *(f"{key}={value}" for key, value in options.items()))
    return beginning(cfg, NORMAL, sampler or Heun(), schedule, schedule.grid(10))


def test_a_discrete_schedule_starts_every_sampler_in_its_chart():
    noise = torch.randn(5, 2, generator=generator(0), dtype=torch.float64)
    sigma = float(LEVELS.grid(10)[0])
    correct = PredictorCorrector(ChartHeun(), Uncorrected())
    for sampler in (Euler(), Heun(), ChartHeun(), correct):
        initial = begins(LEVELS, sampler).initial
        expected = math.sqrt(1 + sigma**2) * noise
        torch.testing.assert_close(initial(noise, sigma), expected, rtol=1e-15, atol=0)
    # at 8.39, where Stable Diffusion's own grid begins, sigma is .7 % too small
    assert math.hypot(1, 8.39) / 8.39 == pytest.approx(1.0071, abs=1e-4)
    # elsewhere, and on request, it is the sampler's own, or sigma noise
    assert begins(VE()).initial is None
    assert begins(LEVELS, init="prior").initial == Prior()
    late = begins(LEVELS, at=2.0)
    assert late.initial == InChart() and float(late.sigmas[0]) == pytest.approx(2, rel=0.01)
    assert begins(VE(), at=2.0).initial == Own(Heun())
    noisy = FromNoise(betas=ScaledLinearBetas(), timesteps=SpacedLevels())
    assert begins(noisy).initial is None


def test_the_samples_of_a_gaussian_have_the_variance_that_the_start_leaves():
    """N(0, I) down the flow of D = x/(1 + s^2): x_N sqrt((1 + s_K^2)/(1 + s_0^2)). From the chart
    that is the law at s_K exactly; from sigma noise it lacks s_0^2/(1 + s_0^2)."""
    options = "data=normal model=exact sampler=heun n=4 sampler.steps=400 figures=false"
    lines = [*options.split(), "schedule@sampler.schedule=ldm_leading"]
    chart = assemble(composed("sample", *lines))
    prior = assemble(composed("sample", *lines, "init=prior"))
    assert chart.simulation.initial == InChart() and prior.simulation.initial == Prior()
    start = chart.simulation.start(range(4))
    below = prior.simulation.start(range(4))
    s = chart.simulation.highest
    torch.testing.assert_close(start.x / below.x, torch.full_like(start.x, math.hypot(1, s) / s))
    end = chart.simulation.draw(range(4)).samples
    last = float(chart.simulation.sigmas[-1])
    torch.testing.assert_close(end, start.unit * math.hypot(1, last), rtol=1e-3, atol=0)


def test_what_is_teleported_is_the_start_of_the_schedule():
    """Down the flow of N(0, I) from N(0, 1 + s^2): its own law at every level."""
    initial = begins(LEVELS, init="teleport", at=2.0).initial
    noise = torch.randn(5, 2, generator=generator(0), dtype=torch.float64)
    torch.testing.assert_close(initial(noise, 2.0), math.sqrt(5) * noise, rtol=1e-12, atol=0)
    own = begins(VE(sigma_max=4), init="teleport", at=2.0).initial
    expected = math.sqrt(5 / 17) * 4 * noise
    torch.testing.assert_close(own(noise, 2.0), expected, rtol=1e-12, atol=0)


def test_a_step_of_an_algorithm_keeps_the_start_of_its_paper():
    """The condition's own step begins as it says, whatever the schedule is."""

    class Steered:
        def around(self, denoise, numbers, device):
            return denoise

        def steered(self, method, numbers, device):
            return Euler()

    grid = LEVELS.grid(4)
    plain = Simulation(Heun(), denoise, grid, (2,), initial=InChart())
    told = replace(plain, condition=Steered())
    ratio = plain.start(range(3)).x / told.start(range(3)).x
    s = float(grid[0])
    torch.testing.assert_close(ratio, torch.full_like(ratio, math.hypot(1, s) / s))


def test_whoever_has_the_law_of_the_start_has_that_of_the_samples():
    """The closed forms of `theory restoration` set out from the law that `sample` draws from."""
    sigmas = LEVELS.grid(10)
    law = start_on(LEVELS, sigmas, (2,))
    drawn = InChart()(torch.eye(2, dtype=torch.float64), float(sigmas[0]))
    torch.testing.assert_close(law.covariance, drawn @ drawn.mT, rtol=1e-15, atol=0)
    assert not law.mean.any() and start_on(VE(), VE().grid(10), (2,)) is None


def test_a_budget_lays_other_numbers_of_steps_as_the_schedule_does_unless_the_run_began_late():
    """On a grid whose first level depends on the number of steps, 901 of 10 and 951 of 20."""
    leading = replace(LEVELS, timesteps=Spaced("leading", 1, 0))
    budget = Budget(schedule=leading, steps=(20,))
    plain = Simulation(Heun(), denoise, leading.grid(10), (2,), initial=InChart())
    assert budget.grids(plain)[20].tolist() == leading.grid(20).tolist()
    late = begins(leading, at=2.0)
    below = replace(plain, sigmas=late.sigmas, initial=late.initial)
    found = budget.grids(below)[20]
    assert float(found[0]) == pytest.approx(float(late.sigmas[0]), rel=0.01)


def test_a_scheduler_that_bounds_latents_is_quoted(tmp_path):
    """Thresholding with sample_max_value=1 is a clip: the line names the key that asks for it."""
    written(tmp_path, _class_name="DDIMScheduler", clip_sample=False, thresholding=True)
    model = SimpleNamespace(folder=SimpleNamespace(scheduler=read_scheduler(tmp_path)))
    with pytest.raises(UsageError, match=r"thresholding=true.*write loop\.clip=1"):
        check_loop(model, Loop())
    check_loop(model, Loop(clip=1.0))


def test_an_offset_beyond_the_last_timestep(tmp_path):
    schedule = written(tmp_path, _class_name="DDIMScheduler", steps_offset=2000)
    with pytest.raises(UsageError, match="steps_offset=2000 .* write a whole number below 1000"):
        schedule.grid(10)
