"""From a Hydra config to objects, and the run folder that every command leaves behind.

    config.yaml  metrics.jsonl  metrics.json  samples.npy  checkpoint/  figures/*.png  provenance.json

`metrics.json` is written last: a folder that holds it is finished. It holds no time, rate or path; those are in `provenance.json`.
"""
from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from diffgeo.allocator import keep_freed_memory
from diffgeo.checkpoint import load_weights
from diffgeo.core import Data, Denoiser, Sampler, Schedule, Weighting
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.files import write_json, write_text

ALLOWED = ("diffgeo.",)                 # a config may build nothing else: `_target_` can name any callable of the interpreter


def build(cfg, **arguments):
    """Instantiate a config node. Raises UsageError on a `_target_` outside diffgeo, or on arguments that it does not take."""
    def check(node) -> None:
        if isinstance(node, DictConfig):
            target = node._get_node("_target_")
            if target is not None and not str(node["_target_"]).startswith(ALLOWED):
                raise UsageError(f"_target_: {node['_target_']} is not part of diffgeo; a config may build diffgeo's own classes only")
        if OmegaConf.is_config(node):
            for child in node.values() if isinstance(node, DictConfig) else node:
                check(child)

    try:
        check(cfg)
        return instantiate(cfg, **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, DiffgeoError):
            raise cause from None
        what = OmegaConf.select(cfg, "_target_") or "the config"
        raise UsageError(f"{what.removeprefix('diffgeo.')}: {cause or error}") from error
    except OmegaConfBaseException as error:
        raise UsageError(str(error).splitlines()[0]) from error


@dataclass(frozen=True)
class Experiment:
    """The objects that a config names."""

    data: Data
    model: Denoiser
    schedule: Schedule
    weighting: Weighting
    sampler: Sampler
    chart: Schedule             # the sampler's own schedule
    sigmas: Tensor              # [K+1]
    device: torch.device


def device_of(cfg) -> torch.device:
    """`device=auto` takes the GPU when there is one. Raises UsageError for a device that torch does not have."""
    name = cfg.device if cfg.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device={name} is not available here ({str(error).splitlines()[0]}); write device=cpu or device=auto") from error


def assemble(cfg) -> Experiment:
    """Build every object of a config. It fills in `sigma_data`, the law's own deviation, where the config leaves it open."""
    device = device_of(cfg)
    torch.set_num_threads(int(cfg.threads))
    keep_freed_memory()
    data = build(cfg.data)
    if cfg.get("sigma_data") is None:
        cfg.sigma_data = float(data.std)
    torch.manual_seed(int(cfg.seed))                                # the network's initial weights
    model = build(cfg.model)(data=data, net=build(cfg.net))
    if isinstance(model, torch.nn.Module):
        model = model.to(device)
    chart = build(cfg.sampler.schedule)
    options = OmegaConf.to_container(cfg.sampler, resolve=True)
    sampler = build(OmegaConf.create({k: v for k, v in options.items() if k not in ("steps", "schedule")}))
    return Experiment(data, model, build(cfg.schedule), build(cfg.weighting), sampler, chart, chart.grid(int(cfg.sampler.steps)), device)


def save_config(folder: Path, cfg, overrides: Sequence[str] = ()) -> None:
    """Begin a run folder: the resolved config, the overrides that made it; and say where it is."""
    write_text(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(list(overrides))))
    write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    print(f"run folder: {folder}", flush=True)


def load(folder: Path) -> Experiment:
    """The experiment of a run folder as it was resolved, with the weights it was trained to."""
    path = folder / "config.yaml"
    try:
        cfg = OmegaConf.load(path)
    except Exception as error:
        raise DiffgeoError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    experiment = assemble(cfg)
    if isinstance(experiment.model, torch.nn.Module):
        load_weights((Path(cfg.run) if cfg.get("run") else folder) / "checkpoint" / "model.safetensors", experiment.model)
    return experiment


def finished(folder: Path) -> bool:
    return (folder / "metrics.json").exists()


def provenance(folder: Path, cfg, device, **measured) -> None:
    """Write what made this run: versions, commit, device, seed, command, and what was measured (seconds, evaluations)."""
    packages = ("diffgeo", "torch", "numpy", "scipy", "hydra-core", "omegaconf", "safetensors")
    try:
        commit = subprocess.run(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"],
                                capture_output=True, text=True, timeout=5).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        commit = None
    write_json(folder / "provenance.json", {
        "python": platform.python_version(), "platform": platform.platform(), "git_commit": commit,
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu", "threads": torch.get_num_threads(),
        "seed": int(cfg.seed), "command": " ".join(["diffgeo", *sys.argv[1:]]), **measured})
