"""From a Hydra config to objects, and the run folder that every command leaves behind.

    config.yaml  metrics.jsonl  metrics.json  samples.npy  checkpoint/  figures/*.png  provenance.json

`metrics.json` is written last: a folder that holds it is finished. It holds no time, rate or path;
those are in `provenance.json`.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from diffgeo import __version__
from diffgeo.config import kinds
from diffgeo.core import Data, Denoiser, Fitted, Metric, Sampler, Schedule, Weighting
from diffgeo.denoiser import trainable
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine.allocator import keep_freed_memory
from diffgeo.machine.distributed import own
from diffgeo.machine.precision import allow_tf32
from diffgeo.simulation import ClassLabel, Simulation
from diffgeo.store.checkpoint import load_weights
from diffgeo.store.files import read_array, write_json, write_text

# a config may build nothing else: `_target_` can name any callable of the interpreter
ALLOWED = ("diffgeo.",)


def build(cfg, **arguments):
    """Instantiate a config node. Raises UsageError on a `_target_` outside diffgeo, on options that
    it does not take, and on values that are not of the kind its annotations name (`kinds`)."""

    def ours(node) -> None:
        if isinstance(node, DictConfig):
            target = node._get_node("_target_")
            if target is not None and not str(node["_target_"]).startswith(ALLOWED):
                raise UsageError(
                    f"_target_: {node['_target_']} is not part of diffgeo; a config may build "
                    "diffgeo's own classes only"
                )
        if OmegaConf.is_config(node):
            for child in node.values() if isinstance(node, DictConfig) else node:
                ours(child)

    try:
        ours(cfg)
        kinds.check(cfg)
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
    chart: Schedule  # the sampler's own schedule
    simulation: Simulation  # of the model's samples
    numbers: range  # of the samples that the config asks for
    metrics: Metric
    device: torch.device


def device_of(cfg) -> torch.device:
    """`device=auto` takes the GPU when there is one, under torchrun each process its own. Raises
    UsageError for a device that torch does not have."""
    name = cfg.device if cfg.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # before it is touched: a context on GPU 0 takes half a gigabyte
        device = own(torch.device(name))
        torch.empty(0, device=device)
        return device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device={name} is not available here ({str(error).splitlines()[0]}); write device=cpu "
            "or device=auto"
        ) from error


def assemble(cfg, model: Callable[..., tuple[Data, Denoiser]] | None = None) -> Experiment:
    """Build every object of a config. It fills in `sigma_data`, the law's own deviation, where the
    config leaves it open.

    model: what makes the law and its model instead of `make`, to the same effect.
    """
    for key, least in (("n", 1), ("seed", 0), ("threads", 1), ("first", 0), ("batch", 1)):
        open_ = key in ("batch", "threads") and cfg.get(key) is None
        if (
            key in cfg
            and not open_
            and (not isinstance(cfg[key], int) or not least <= cfg[key] < 2**31)
        ):
            raise UsageError(f"{key}={cfg[key]}: write a whole number from {least} to 2147483647")
    device = device_of(cfg)
    keep_freed_memory()
    allow_tf32("float32")  # but where a network is trained or sampled (precision.running)
    data, model = (model or make)(cfg, device)
    torch.set_num_threads(cfg.threads or (threads() if hasattr(data, "quantize") else 1))
    schedule = build(cfg.schedule)
    sampler, chart, sigmas = method(cfg.sampler)
    first = cfg.get("first", 0)
    noise = None
    if cfg.get("noise") is not None:
        noise = load_array(cfg.noise, "noise", data.shape)
        cfg.n = len(noise)
    around = build(
        OmegaConf.create(
            {
                "loop": {
                    "_target_": "diffgeo.simulation.Loop",
                    "_partial_": True,
                    **cfg.get("loop", {}),
                }
            }
        ).loop
    )
    guidance = kinds.plain("guidance", cfg.get("guidance", 1.0))
    condition = ClassLabel(cfg.get("label"), guidance, classes_of(model, data))
    if condition.label == "all" and sampler.adaptive:
        raise UsageError(
            "label=all: an adaptive sampler lets some samples go ahead of others; write one class, "
            "or another sampler"
        )
    simulation = Simulation(
        sampler,
        model,
        sigmas,
        tuple(data.shape),
        cfg.seed,
        around(trained=schedule),
        condition,
        noise,
        first,
        device,
    )
    return Experiment(
        data,
        model,
        schedule,
        build(cfg.weighting),
        chart,
        simulation,
        range(first, first + cfg.n),
        build(cfg.metrics),
        device,
    )


def method(node) -> tuple[Sampler, Schedule, Tensor]:
    """The sampler of a config node, its schedule, and the levels of its steps [K+1]."""
    options = OmegaConf.to_container(node, resolve=True)
    own = {key: value for key, value in options.items() if key not in ("steps", "schedule")}
    chart = build(node.schedule)
    return build(OmegaConf.create({"sampler": own}).sampler), chart, chart.grid(node.steps)


def load_array(path: str, option: str, shape: Sequence[int]) -> Tensor:
    """Points [n,*shape] from a .npy, .npz or .csv file or a folder with samples.npy, float64.
    Raises UsageError."""
    file = Path(path) / "samples.npy" if Path(path).is_dir() else Path(path)
    array = torch.from_numpy(read_array(file, option))
    if tuple(array.shape[1:]) != tuple(shape) or not len(array):
        raise UsageError(
            f"{option}={file} has shape {tuple(array.shape)}, but data= has points of shape "
            f"{tuple(shape)}: "
            f"write an array of shape (n, {', '.join(map(str, shape))}) or another "
            "data="
        )
    if not torch.isfinite(array).all():
        raise UsageError(
            f"{option}={file} holds {int((~torch.isfinite(array)).sum())} values that are not "
            "finite"
        )
    return array


def threads() -> int:
    """The threads that images are worth: as many as OMP_NUM_THREADS says (torchrun sets it), else
    one a core that this process may use."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make(cfg, device: torch.device) -> tuple[Data, Denoiser]:
    """The law and its model, on the device; sets cfg.sigma_data where it is open."""
    data = build(cfg.data)
    if cfg.get("sigma_data") is None:
        cfg.sigma_data = float(data.std) or 1.0  # one point has no deviation
    torch.manual_seed(cfg.seed)  # the network's initial weights
    model = build(cfg.model)(data=data, net=build(cfg.net))
    return data, model.to(device) if trainable(model) else model


# what a run may be taken up again with otherwise set
FREE = (
    "n",
    "figures",
    "metrics",
    "logger",
    "device",
    "threads",
    "resume",
    "batch",
    "png",
    "preview",
    "max_seconds",
    "trainer.accumulate",
    "trainer.compile",
)


def begin(folder: Path, cfg, overrides: Sequence[str] = ()) -> bool:
    """Begin a run folder, or take it up again; whether it is finished already, which is said.

    Writes the resolved config and the overrides that made it. Raises UsageError, and writes
    nothing, when the folder holds another run.
    """
    new = OmegaConf.to_container(cfg, resolve=True)
    if (folder / "config.yaml").exists():
        old = OmegaConf.to_container(read_config(folder))
        different = [
            k
            for k in sorted(flat(old).items() ^ flat(new).items(), key=str)
            if not {k[0], k[0].split(".")[0]} & set(FREE)
        ]
        if different:
            raise UsageError(
                f"{folder} holds another run (it differs in {different[0][0]}): write another "
                "folder, or take it up as it was"
            )
    if (folder / "metrics.json").exists():
        print(f"{folder} is finished; its metrics are in {folder / 'metrics.json'}")
        return True
    write_text(folder / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(list(overrides))))
    write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    print(f"run folder: {folder}", flush=True)
    return False


def flat(node, prefix: str = "") -> dict[str, str]:
    """A nested config as {dotted key: printed value}."""
    if not isinstance(node, dict):
        return {prefix: repr(node)}
    return {
        k: v
        for key, child in node.items()
        for k, v in flat(child, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def read_config(folder: Path) -> DictConfig:
    path = folder / "config.yaml"
    try:
        return OmegaConf.load(path)
    except Exception as error:
        raise DiffgeoError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def weigh(model: Denoiser, folder: Path) -> None:
    """Load the weights of the run `folder`, or of the run that `folder` was sampled from, into a
    model, which is then in evaluation mode; nothing when it has none to train, or came with its
    own."""
    if not trainable(model):
        return
    while not (folder / "checkpoint").exists() and (origin := read_config(folder).get("run")):
        folder = Path(origin)
    if (folder / "checkpoint").exists() or not pretrained(model):
        load_weights(folder / "checkpoint" / "model.safetensors", model)
    model.eval()


def pretrained(model: Denoiser) -> bool:
    """Whether a model came with its weights."""
    return getattr(model, "pretrained", False)


def classes_of(model: Denoiser, data: Data) -> int:
    """How many classes the model can be told: those of its network, or of the law whose exact
    denoiser it is."""
    return getattr(getattr(model, "net", model) if trainable(model) else data, "classes", 0)


def load(folder: Path) -> Experiment:
    """The experiment of a run folder as it was resolved, with the weights it was trained to; its
    simulation draws the run's own samples."""
    experiment = assemble(read_config(folder))
    weigh(experiment.model, folder)
    return fitted(experiment)


def fitted(experiment: Experiment) -> Experiment:
    """The experiment with a sampler that measures its law before it samples (`fit`) fitted to the
    model; any other as it is."""
    simulation = experiment.simulation
    if not isinstance(simulation.sampler, Fitted):
        return experiment
    sampler = simulation.sampler.fit(experiment.model, experiment.data, simulation.seed)
    return replace(experiment, simulation=replace(simulation, sampler=sampler))


def provenance(folder: Path, cfg, verb: str, device, **measured) -> None:
    """Write what made this run: versions, commit, device, seed, command, and what was measured
    (seconds, evaluations)."""
    packages = ("torch", "numpy", "scipy", "hydra-core", "omegaconf", "safetensors")
    source = Path(__file__).resolve().parent.parent
    commit = None
    if (source / ".git").exists():  # an installed package may lie inside somebody else's repository
        try:
            commit = (
                subprocess.run(
                    ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"],
                    capture_output=True,
                    text=True,
                    timeout=5,
                ).stdout.strip()
                or None
            )
        except (OSError, subprocess.SubprocessError):
            pass
    overrides = OmegaConf.to_container(OmegaConf.load(folder / "overrides.yaml"))
    write_json(
        folder / "provenance.json",
        {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "git_commit": commit,
            "packages": {"diffgeo": __version__}
            | {name: importlib.metadata.version(name) for name in packages},
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "seed": cfg.seed,
            "command": shlex.join(["diffgeo", verb, *overrides]),
            **measured,
        },
    )
