"""How samples are drawn, by names of conf/ or by objects."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, get_type_hints

import torch
from torch import Tensor

from diffgeo.config.recipe import Recipe, Stepping, image_steps
from diffgeo.config.stepping import check_stepping
from diffgeo.core import Data, Denoiser, Fitted, Sampler, Schedule
from diffgeo.denoiser import trainable
from diffgeo.errors import UsageError
from diffgeo.library.laws import LawLike, law, seen_as_images, slots_for
from diffgeo.library.surroundings import device_of, undisturbed
from diffgeo.schedule.counts import other_count
from diffgeo.simulation import Loop, Simulation
from diffgeo.simulation.initial import of_schedule


def simulate(
    law_: LawLike,
    model: str | Denoiser = "exact",
    *,
    sampler: str | Sampler | None = None,
    steps: int | None = None,
    schedule: str | Schedule | None = None,
    loop: Loop = Loop(),
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Simulation:
    """How samples of a law are drawn with a model: `simulate(law).draw(1000).samples`.

    law_: a law, or what stands for one (`law`).
    model: E[x0 | x], a network or any callable (x [B,*D], sigma) -> [B,*D]; or a name that needs
        no training, "exact", "gaussian".
    sampler: a name, "dpmpp_2m", or an object; None: Heun's method.
    steps: of the sampler; None: as many as its config says.
    schedule: of the levels, a name, "karras", or an object; None: the one of the sampler's config.
    loop: what is done around the sampler (`simulation.Loop`).
    seed: of the noise: sample i is a function of the seed and of i.
    device: cpu, cuda, or auto.

    The same samples as `diffgeo sample model=exact data=... sampler=... sampler.steps=...
    sampler.schedule=...`. Raises UsageError on a name or a number of steps that there is not.
    """
    data = law(law_)
    where = device_of(device)
    denoise = closed_form(model, data) if isinstance(model, str) else model
    chosen = {"sampler": sampler, "sampler.schedule": schedule}
    stepping = stepping_of(data, chosen, steps)
    return simulation_of(data, denoise, stepping, loop, seed, where)


def closed_form(name: str, data: Data) -> Denoiser:
    """The denoiser of a law that a name of conf/model chooses. Raises UsageError on a network."""
    recipe = Recipe({"model": name}, sigma_data=float(data.std) or 1.0)
    denoise = recipe.make("model")(data=data, net=no_network)
    if trainable(denoise) and not denoise.pretrained:
        raise UsageError(f"model={name} is a network, and needs its weights: train it first")
    return denoise


def no_network(**options) -> torch.nn.Module:
    """In the place of a network where a closed form was asked for."""
    raise UsageError("a network needs its weights: train it first, with diffgeo.train")


def stepping_of(data: Data, chosen: Mapping[str, Any], steps: int | None = None) -> Stepping:
    """The sampler, its schedule and its steps for a law, with what is chosen in the place of the
    law's own. Raises UsageError."""
    slots = slots_for(data)
    own = {"sampler": slots["sampler"], **chosen_of(slots, "sampler.schedule")}
    sampler = chosen.get("sampler")
    names = own | {slot: choice for slot, choice in chosen.items() if choice is not None}
    default = image_steps() if seen_as_images(data) else None
    if sampler is None or isinstance(sampler, str):
        found = Recipe(names).stepping()
    else:  # an object: the levels and the steps of the law's own
        names["sampler"] = own["sampler"]
        found = Recipe(names).stepping()._replace(sampler=sampler)
    count = steps if steps is not None else default if default is not None else found.steps
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise UsageError(f"steps={count}: give a whole number from 1 on")
    return found._replace(steps=count)


def laid(chart: Schedule) -> Tensor:
    """The levels of a schedule that knows of itself how many it has. Raises UsageError where it
    does not."""
    if get_type_hints(type(chart).grid)["steps"] is int:
        raise UsageError("this schedule lays any number of levels: give steps, how many")
    return chart.grid(None)  # type: ignore[arg-type]


def chosen_of(slots: Mapping[str, object], slot: str) -> dict[str, object]:
    """The choice of one slot, where there is one."""
    return {slot: slots[slot]} if slot in slots else {}


def simulation_of(
    data: Data,
    denoise: Denoiser,
    stepping: Stepping,
    loop: Loop,
    seed: int,
    device: torch.device,
) -> Simulation:
    """A simulation of a law's shape, its sampler fitted to the law where it has to be."""
    sampler, chart, steps = stepping
    sigmas = chart.grid(steps) if steps is not None else laid(chart)
    if said := other_count(chart, sigmas, steps):
        print(said, file=sys.stderr)
    check_stepping(denoise, sampler, sigmas, loop)
    if isinstance(sampler, Fitted):
        with undisturbed(data):
            sampler = sampler.fit(denoise, data, seed)
    return Simulation(
        sampler,
        denoise,
        sigmas,
        tuple(data.shape),
        seed=seed,
        loop=loop,
        device=device,
        initial=of_schedule(chart),
    )
