"""From a Hydra config to objects: here a config ends.

`build` makes one object of a node, `assemble` everything that a run is made of. What comes after
them (training, drawing, measuring, reporting) takes objects and plain values, never a config.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_type_hints

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from diffgeo.config import kinds, measured, offers
from diffgeo.config.beginning import beginning
from diffgeo.config.limits import (
    check_finite,
    check_memory,
    check_net,
    check_numbers,
    check_parts,
    largest,
    part,
)
from diffgeo.config.prompted import check_classed, check_slots, of_latents, prompted
from diffgeo.config.stepping import check_stepping
from diffgeo.config.titles import Names, names_of
from diffgeo.core import (
    Classes,
    Condition,
    Data,
    Denoiser,
    Fitted,
    Metric,
    Pictures,
    Sampler,
    Schedule,
    Streamed,
    Weighting,
)
from diffgeo.denoiser import Network, trainable
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import environment, memory, precision
from diffgeo.machine.allocator import keep_freed_memory
from diffgeo.machine.distributed import own
from diffgeo.pretrained.latent.latents import Latents
from diffgeo.schedule.counts import other_count
from diffgeo.simulation import ClassLabel, Loop, Simulation, fitting
from diffgeo.simulation.sampling import Sampling
from diffgeo.store.arrays import read_array

Loader = Callable[..., tuple[Data, Denoiser]]  # (cfg, device) -> the law and its model


def build(cfg, **arguments):
    """Instantiate a config node.

    Raises UsageError on a `_target_` that its slot does not take (`offers`), on options that it
    does not take, and on values that are not of the kind its annotations name (`kinds`).
    """
    try:
        offers.check(cfg)
        kinds.check(cfg)
        return offers.taken(cfg, instantiate(cfg, **arguments))
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, DiffgeoError):
            raise cause from None
        if isinstance(cause, Exception) and memory.out_of_memory(cause):
            key = largest(cfg._get_full_key(None) or "the config", cfg)
            raise UsageError(f"{key}: there is not enough memory to build it; write less") from None
        what = OmegaConf.select(cfg, "_target_") or "the config"
        raise UsageError(f"{what.removeprefix('diffgeo.')}: {cause or error}") from error
    except OmegaConfBaseException as error:
        raise UsageError(str(error).splitlines()[0]) from error


@dataclass(frozen=True)
class Experiment:
    """The objects that a config names."""

    data: Data
    model: Denoiser
    schedule: Schedule  # of training
    weighting: Weighting
    chart: Schedule  # the sampler's own schedule, from its first level down
    simulation: Simulation  # of the model's samples
    numbers: range  # of the samples that the config asks for
    sampling: Sampling
    metrics: Metric
    figures: bool | tuple[str, ...]  # all that there are, none, or some by name
    png: bool  # whether sampled images are written one by one too
    device: torch.device
    names: Names | None = None  # of law, model and sampler, for the titles of figures


def assemble(cfg, model: Loader | None = None) -> Experiment:
    """Build every object of a config. It fills in what the config leaves open: `sigma_data`, the
    law's own deviation, and `n`, where noise is given for so many samples or there are so many
    prompts.

    model: what makes the law and its model instead of `make`, to the same effect.
    """
    check_numbers(cfg)
    check_parts(cfg)
    device = device_of(cfg.device)
    keep_freed_memory()
    precision.allow_tf32("float32")  # but where a network is trained or sampled
    data, denoise = (model or make)(cfg, device)
    torch.set_num_threads(cfg.threads or threads(data))
    schedule = build(cfg.schedule)
    sampler = method_of(cfg.sampler)
    chart, sigmas = grid_of(cfg.sampler)
    first = cfg.get("first", 0)
    noise = None
    if cfg.get("noise") is not None:
        noise = load_array(cfg.noise, "noise", data.shape)
        cfg.n = len(noise)
    loop = loop_of(cfg.get("loop", {}), schedule)
    check_stepping(denoise, sampler, sigmas, loop)
    begins = beginning(cfg, data, sampler, chart, sigmas)
    condition = condition_of(cfg, denoise, data, sampler, loop)
    check_memory(data, cfg.n)
    simulation = Simulation(
        sampler,
        denoise,
        begins.sigmas,
        tuple(data.shape),
        seed=cfg.seed,
        loop=loop,
        condition=condition,
        noise=noise,
        first=first,
        device=device,
        initial=begins.initial,
        in_chart=isinstance(data, Latents),
    )
    kind = precision.resolved(cfg.get("precision", "float32"), device, "tf32", "precision")
    batch = cfg.get("batch") or fitting(data.shape)
    return Experiment(
        data=data,
        model=denoise,
        schedule=schedule,
        weighting=build(cfg.weighting),
        chart=begins.chart,
        simulation=simulation,
        numbers=range(first, first + cfg.n),
        sampling=Sampling(kind, batch, device, recurring=not sampler.adaptive),
        metrics=build(cfg.metrics),
        figures=figures_of(cfg.figures),
        png=kinds.plain("png", cfg.get("png", False), bool),
        device=device,
        names=names_of(cfg) if cfg.figures else None,
    )


def device_of(name: str) -> torch.device:
    """`auto` takes the GPU when there is one, under torchrun each process its own. Raises
    UsageError for a device that torch does not have."""
    if kinds.plain("device", name, str) == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # before it is touched: a context on GPU 0 takes half a gigabyte
        device = own(torch.device(name))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        why = f" ({reason})" if len(reason) < 80 else ""  # torch lists its backends
        raise UsageError(
            f"device={name} is not available here{why}; write device=cpu or device=auto"
        ) from error
    if device.type == "meta":
        raise UsageError("device=meta holds no numbers; write device=cpu or device=auto")
    return device


def threads(data: Data) -> int:
    """The threads that a law is worth. Points are fastest on one; images on as many as
    OMP_NUM_THREADS says (torchrun sets it), else on every core that this process may use."""
    if not isinstance(data, Pictures):
        return 1
    return environment.threads() or environment.cores()


def make(cfg, device: torch.device) -> tuple[Data, Denoiser]:
    """The law, given a measurement where the config has one, and its model, on the device; sets
    cfg.sigma_data where it is open."""
    check_slots(cfg)
    data = build(cfg.data)
    check_finite(data, cfg.data)
    conditioned = measured.conditions(cfg)
    if conditioned:
        operator = build(part(cfg, "operator"))(shape=tuple(data.shape))
        data = measured.posterior(data, operator, cfg.y, cfg.sigma_n)
    if cfg.get("sigma_data") is None:
        cfg.sigma_data = float(data.std) or 1.0  # one point has no deviation
    torch.manual_seed(cfg.seed)  # the network's initial weights
    check_net(cfg.net)
    advice = "write a smaller net.width, net.channels, net.depth or net.blocks"
    with memory.Bounded(largest("net", cfg.net), advice):
        model = build(cfg.model)(data=data, net=build(cfg.net))
        offers.check_denoiser(cfg.model, model)
    if conditioned and trainable(model):
        raise UsageError(
            "operator= conditions a law, and a network knows none: write model=exact, or "
            "diffgeo restore run=FOLDER for the network's guess of the posterior"
        )
    return data, model.to(device) if trainable(model) else model


def method_of(node) -> Sampler:
    """The sampler of a config node, in which its steps and its schedule stand beside it."""
    options = OmegaConf.to_container(node, resolve=True)
    own = {key: value for key, value in options.items() if key not in ("steps", "schedule")}
    return build(OmegaConf.create({"sampler": own}).sampler)


def grid_of(node) -> tuple[Schedule, Tensor]:
    """The schedule of a sampler's config node, and the levels of its steps [K+1]. Raises UsageError
    where the node has none."""
    if node.get("schedule") is None:
        raise UsageError(
            "sampler.schedule= is not set, and this sampler's config names none: write "
            "sampler.schedule=karras, or `/schedule@schedule: karras` in its defaults"
        )
    chart = build(part(node, "schedule"))
    steps = node.get("steps")
    # some schedules know of themselves how many steps they have
    if steps is not None or kinds.wrong(None, get_type_hints(type(chart).grid)["steps"]):
        steps = kinds.step_count(node._get_full_key("steps"), steps)
    sigmas = chart.grid(steps)
    if said := other_count(chart, sigmas, steps):
        print(said, file=sys.stderr)
    return chart, sigmas


def loop_of(options, trained: Schedule) -> Loop:
    """The options around a sampler; `trained` is what a network's own levels are taken from."""
    if not isinstance(options, Mapping | DictConfig):
        raise UsageError(f"loop={kinds.shown(options)}: write its options, as loop.clip=1")
    target = {"_target_": "diffgeo.simulation.Loop", "_partial_": True}
    return build(OmegaConf.create({"loop": target | dict(options)}).loop)(trained=trained)


def condition_of(cfg, model: Denoiser, data: Data, sampler: Sampler, loop: Loop) -> Condition:
    """What each sample is told. Raises UsageError on what the model or the sampler cannot do."""
    if of_latents(model, data):
        return prompted(cfg, model, sampler, loop)
    check_classed(cfg, model, sampler, loop)
    guidance = kinds.plain("guidance", cfg.get("guidance", 1.0))
    classes = classes_of(model, data)
    condition = ClassLabel(cfg.get("label"), guidance, classes, among(data, classes))
    if condition.label == "all" and sampler.adaptive:
        raise UsageError(
            "label=all: an adaptive sampler lets some samples go ahead of others; write one class, "
            "or another sampler"
        )
    return condition


def figures_of(value) -> bool | tuple[str, ...]:
    """`figures=`: true, false, or names."""
    if OmegaConf.is_list(value):
        return tuple(kinds.plain("figures", name, str) for name in value)
    return kinds.plain("figures", value, bool)


def load_array(path: str, option: str, shape: Sequence[int]) -> Tensor:
    """Points [n,*shape] from a .npy, .npz or .csv file or a folder with samples.npy, float64.
    Raises UsageError."""
    file = Path(path) / "samples.npy" if Path(path).is_dir() else Path(path)
    array = torch.from_numpy(read_array(file, option))
    if tuple(array.shape[1:]) != tuple(shape) or not len(array):
        raise UsageError(
            f"{option}={file} has shape {tuple(array.shape)}, but data= has points of shape "
            f"{tuple(shape)}: write an array of shape (n, {', '.join(map(str, shape))}) or "
            "another data="
        )
    wrong = int((~torch.isfinite(array)).sum())
    if wrong:
        raise UsageError(f"{option}={file} holds {wrong} values that are not finite")
    return array


def pretrained(model: Denoiser) -> bool:
    """Whether a model came with its weights."""
    return isinstance(model, Network) and model.pretrained


def classes_of(model: Denoiser, data: Data) -> int:
    """How many classes the model can be told: those that it says, or of the law whose exact
    denoiser it is."""
    return model.classes if isinstance(model, Classes) else data.classes


def among(data: Data, classes: int) -> tuple[int, ...] | None:
    """Which of the model's classes the law has images of, increasing; None where they are not the
    law's own, or the law does not tell."""
    if not isinstance(data, Streamed) or data.labels is None or data.classes != classes:
        return None
    return tuple(data.labels.unique().tolist())


def fitted(experiment: Experiment) -> Experiment:
    """The experiment with a sampler that measures its law before it samples fitted to the model;
    any other as it is."""
    simulation = experiment.simulation
    if not isinstance(simulation.sampler, Fitted):
        return experiment
    sampler = simulation.sampler.fit(experiment.model, experiment.data, simulation.seed)
    return replace(experiment, simulation=replace(simulation, sampler=sampler))
