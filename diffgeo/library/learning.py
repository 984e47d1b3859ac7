"""A training in memory: no run folder, no config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from diffgeo.config.nearest import advice
from diffgeo.config.recipe import Recipe
from diffgeo.core import Data, Parameterization, Schedule, Weighting
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.library.drawing import simulation_of, stepping_of
from diffgeo.library.laws import LawLike, law, slots_for
from diffgeo.library.result import Result
from diffgeo.library.surroundings import device_of, undisturbed
from diffgeo.machine import progress
from diffgeo.parameterization import Scaled
from diffgeo.simulation import Loop
from diffgeo.store.checkpoint import is_finite
from diffgeo.training import Trainer, Training
from diffgeo.training.weighting import check_positive

NetLike = str | nn.Module | Callable[..., nn.Module]


def train(
    law_: LawLike,
    model: str | Parameterization | Network = "cem",
    *,
    steps: int | None = None,
    net: NetLike | None = None,
    trainer: str | Trainer | Mapping[str, object] | None = None,
    schedule: str | Schedule | None = None,
    weighting: str | Weighting | None = None,
    sigma_data: float | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    quiet: bool = False,
) -> Result:
    """Train a network on a law, as `diffgeo train model=... data=... trainer.steps=...` does: the
    same seed gives the same weights, to the byte on a CPU.

    law_: a law, or what stands for one (`law`): its samples [n,*D] are all that is asked of it.
    model: what the network predicts, "epsilon", "score", "cem", "v", "velocity", "edm"; a
        parameterization, sigma [B] -> `core.Coefficients` for data of deviation 1; or a `Network`,
        which is trained on in place.
    steps: of the optimizer; None: as many as the trainer has.
    net: F(x [B,*D], noise [B]) -> [B,*D]: a name, "mlp"; an `nn.Module`, which is trained in
        place; or what makes one, called with shape=*D. None: the one for such a law.
    trainer: options of the training (`training.Trainer`), {"batch": 256, "lr": 1e-3}, in the place
        of the law's own; or a name, "adam"; or a whole `Trainer`.
    schedule: of the noise levels in training, a name or an object with `draw`.
    weighting: of |D - x0|^2, a name, "snr", or sigma [B] -> [B].
    sigma_data: the unit in which the network sees the data; None: the law's own deviation.
    seed: of the initial weights, the training points and the simulation.
    device: cpu, cuda, or auto: the GPU where there is one.
    quiet: no progress bar.

    Returns a `Result` with the law, the network in evaluation mode, its simulation and its losses.
    Raises UsageError on what does not fit, DiffgeoError where the loss or the weights end as NaN.
    """
    data = law(law_)
    where = device_of(device)
    unit = float(data.std) or 1.0 if sigma_data is None else sigma_data
    with undisturbed(data):
        torch.manual_seed(seed)
        chosen = chosen_for(data, model, net, schedule, weighting, trainer)
        recipe = Recipe(chosen, sigma_data=unit)
        network = network_of(recipe, model, data).to(where)
        stepping = stepping_of(data, {})
        training = Training(
            trainer_of(recipe, trainer, steps),
            network,
            data,
            recipe.make("schedule"),
            recipe.make("weighting"),
            seed,
        )
        check_levels(training)
        losses = followed(training, quiet)
        if not is_finite(training.state()):
            raise DiffgeoError(
                "the weights became NaN: give trainer a smaller lr, or clip=1 against steep steps"
            )
        network.load_state_dict(training.weights())
        network.eval()
    simulation = simulation_of(data, network, stepping, Loop(), seed, where)
    return Result(data, network, simulation, losses)


def chosen_for(
    data: Data,
    model: str | Parameterization | Network,
    net: NetLike | None,
    schedule: str | Schedule | None,
    weighting: str | Weighting | None,
    trainer: str | Trainer | Mapping[str, object] | None,
) -> dict[str, object]:
    """What fills the slots of a training: what was given, else what conf/ has for such a law."""
    slots = slots_for(data)
    given = {
        "model": model if isinstance(model, str) else None,
        "net": maker_of(net) if isinstance(net, nn.Module) else net,
        "schedule": schedule,
        "weighting": weighting,
        "trainer": trainer if isinstance(trainer, str | Trainer) else None,
    }
    chosen: dict[str, object] = {}
    for slot, value in given.items():
        chosen[slot] = slots[slot] if value is None else value
    if isinstance(model, Network):
        scaled = model.parameterization
        if isinstance(scaled, Scaled):
            chosen["model.parameterization"] = scaled.parameterization
            chosen["model.sigma_data"] = scaled.sigma_data
        else:
            chosen["model.parameterization"] = scaled
            chosen["model.sigma_data"] = 1.0
    elif not isinstance(model, str):
        chosen["model.parameterization"] = model
    return chosen


def maker_of(module: nn.Module) -> Callable[..., nn.Module]:
    """What makes a network for a law, of one that is made."""

    def make(shape: tuple[int, ...]) -> nn.Module:
        return module

    return make


def network_of(recipe: Recipe, model: str | Parameterization | Network, data: Data) -> Network:
    """The network to train. Raises UsageError on a model with nothing to train."""
    if isinstance(model, Network):
        return model
    made = recipe.make("model")(data=data, net=recipe.make("net"))
    if not isinstance(made, Network) or made.pretrained:
        raise UsageError(
            f"model={model} has nothing to train: give 'cem', 'epsilon', 'score', 'v', 'velocity' "
            "or 'edm'"
        )
    return made


def trainer_of(
    recipe: Recipe, trainer: str | Trainer | Mapping[str, object] | None, steps: int | None
) -> Trainer:
    """The options of a training. Raises UsageError on one that there is not."""
    base: Trainer = recipe.make("trainer")
    options: dict[str, Any] = dict(trainer) if isinstance(trainer, Mapping) else {}
    known = [field.name for field in fields(Trainer)]
    for name in options:
        if name not in known:
            told = advice(name, known, "diffgeo help trainer", "give some of")
            raise UsageError(f"trainer has no option {name!r}{told}")
    if steps is not None:
        options["steps"] = steps
    return replace(base, **options)


def check_levels(training: Training) -> None:
    """Raise UsageError on a weighting that is not positive at the levels of the training."""
    schedule = training.batches.schedule
    sigma = schedule.draw(1 << 16, torch.Generator().manual_seed(0))
    check_positive(training.batches.weighting, sigma, schedule.t(sigma))


def followed(training: Training, quiet: bool) -> tuple[tuple[int, float], ...]:
    """Train to the end under a progress bar; (step, mean loss) of every report."""
    losses: list[tuple[int, float]] = []
    with progress.bar(training.trainer.steps, "train", "step", shown=not quiet) as bar:
        for report in training.run():
            done = losses[-1][0] if losses else 0
            losses.append((report.step, report.loss))
            bar.tell(loss=f"{report.loss:.4g}")
            bar.update(report.step - done)
    return tuple(losses)
