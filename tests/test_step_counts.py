"""A schedule makes the steps that it is asked for, or it says how many it makes and why, or it says
how many it can make."""

import json
import re

import pytest
from configs import every
from hydra.utils import instantiate

from diffgeo.errors import UsageError
from diffgeo.schedule.counts import other_count

COUNTS = (1, 2, 3, 5, 10, 18, 20, 31, 50, 53, 100, 667, 853, 999, 1000, 2000)

# What is done where it is not what was asked for. Levels of a published list that are rounded to
# one trained level are one (`schedule.discrete`); stages are whole.
OTHERWISE = {
    "ge_edm": {18: 17, 20: 19, 31: 29, 50: 47, 53: 50, 100: 92, 667: 545, 853: 652},
    "ge_loglinear": {100: 97, 667: 490, 853: 601},
    "ge_loglinear_ldm": {100: 99, 667: 497, 853: 611},
}
# the most steps that there are, where they are finite
MOST = {
    "ddpm": 999,
    "ddim": 999,
    "ldm": 999,
    "sigmoid": 999,
    "cosine_discrete": 999,
    "ddim_offset": 853,
    "ge_edm": 930,
    "ge_loglinear": 853,
    "ge_loglinear_ldm": 901,
    "diffusers": 1000,
    "folder": 1000,
    "ldm_leading": 999,
    "ldm_linspace": 1000,
}


@pytest.fixture(scope="module")
def schedules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schedules")
    (folder / "gits.json").write_text(json.dumps({"levels": {"1": [80, 0.5]}}))
    (folder / "scheduler_config.json").write_text(json.dumps({"timestep_spacing": "trailing"}))
    options = (
        "levels.sigmas=[80,10,1,0]",
        f"gits.file={folder}/gits.json",
        f"diffusers.folder={folder}",
        f"folder.folder={folder}",
    )
    return {name: instantiate(node) for name, node in every("schedule", *options).items()}


def test_every_schedule_does_the_steps_it_is_asked_for_or_says_what_it_does(schedules):
    assert {*MOST, *OTHERWISE} < set(schedules)
    for name, schedule in schedules.items():
        if name in ("gits", "levels", "stages"):
            continue
        for steps in COUNTS:
            if steps > MOST.get(name, max(COUNTS)):
                with pytest.raises(UsageError, match=f"make {MOST[name]} steps; write at most"):
                    schedule.grid(steps)
                continue
            grid = schedule.grid(steps)
            done = OTHERWISE.get(name, {}).get(steps, steps)
            assert (name, steps, len(grid) - 1) == (name, steps, done)
            said = other_count(schedule, grid, steps)
            if done == steps:
                assert said == ""
            else:
                assert said.startswith(f"sampler.steps={steps}: {done} steps are done: of its lev")


def test_listed_levels_are_for_their_own_number_of_steps(schedules):
    for name, count in (("gits", 1), ("levels", 3)):
        for steps in COUNTS:
            if steps == count:
                assert len(schedules[name].grid(steps)) == count + 1
            else:
                with pytest.raises(UsageError, match=f"write steps={count}"):
                    schedules[name].grid(steps)
        assert other_count(schedules[name], schedules[name].grid(None), None) == ""


def test_stages_say_how_many_steps_they_take(schedules):
    """24 stages of time 1/4, the last of which ends in halvings from 1/4 to 1/100."""
    stages = schedules["stages"]
    for steps in COUNTS:
        said = other_count(stages, stages.grid(steps), steps)
        done = len(stages.grid(steps)) - 1
        assert done != steps and re.match(
            f"sampler.steps={steps}: {done} steps are done: 24 stag", said
        )
    assert len(stages.grid(1)) - 1 == 23 + 5
