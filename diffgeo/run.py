"""The run folder that every command leaves behind.

    config.yaml  overrides.yaml      what was resolved, and what was typed
    metrics.jsonl  checkpoint/       of a training on its way
    samples.npy  figures/*.png       what it ended in
    provenance.json                  versions, commit, device, seconds, evaluations; the digests of
                                     the files above, and of what they were made from
    metrics.json                     every number

`metrics.json` is written last: a folder that holds it is finished. It holds no time, rate or path;
those are in `provenance.json`. Whoever reads a file of a finished folder compares it with its
digest (`store.digest.verified`).
"""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from diffgeo import __version__
from diffgeo.config.build import Experiment, assemble, fitted, make, pretrained
from diffgeo.config.line import INPUTS, key_of, written_by
from diffgeo.config.plugins import made_with
from diffgeo.config.strangers import read_yaml, unfollowed
from diffgeo.core import Data, Denoiser
from diffgeo.denoiser import trainable
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine import signals
from diffgeo.machine.checkout import commit
from diffgeo.store import digest, shards
from diffgeo.store.checkpoint import load_weights
from diffgeo.store.digest import PROVENANCE, verified
from diffgeo.store.files import json_text, take, tidy, write_json, write_text

OFF = ("None", "False", "0", "0.0")  # what a new option is by default
# what a run may be taken up again with otherwise set
FREE = (
    "n",
    "figures",
    "drawing",
    "metrics",
    "logger",
    "device",
    "threads",
    "resume",
    "batch",
    "png",
    "preview",
    "max_seconds",
    "plugins",
    "trainer.accumulate",
    "trainer.compile",
)
PACKAGES = ("torch", "numpy", "scipy", "hydra-core", "omegaconf", "safetensors")
LIBRARIES = ("diffusers", "transformers")  # that a run may have taken its networks from


@dataclass(frozen=True)
class Job:
    """What a command is given beside its config: where to write, what was typed, whether it is one
    job of a sweep, and which keys that varies."""

    path: Path
    overrides: tuple[str, ...] = ()
    sweep: bool = False
    swept: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunFolder:
    """A run folder.

    path: the folder.    command: as it is typed, without `diffgeo`.
    config: the resolved config, plain values.    overrides: that made it.
    inputs: the digests of what it is made from, by option.
    plugins: version and digest of each plugin that it is made with, by name.
    """

    path: Path
    command: str
    config: dict
    overrides: tuple[str, ...] = ()
    inputs: dict[str, str] = field(default_factory=dict)
    plugins: dict[str, dict[str, str | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, command: str, config: DictConfig, job: Job) -> RunFolder:
        """The folder of a job whose objects are made: they fill in what a config leaves open."""
        values = recorded_values(config)
        plugins = made_with.records(values, job.overrides)
        values["plugins"] = list(plugins)
        signals.advise(how_to_go_on(command, job.path))
        return cls(job.path, command, values, job.overrides, inputs_of(command, values), plugins)

    def begin(self) -> bool:
        """Begin the folder, or take it up again; whether it is finished already, which is said.

        Writes the resolved config and the overrides that made it. Raises UsageError, and writes
        nothing, when the folder holds another run; DiffgeoError when another process writes it.
        """
        self.check_same()
        if taken(self.path):
            return True
        for changed in made_with.changed_since(self.path / "config.yaml", self.plugins):
            print(f"note: the plugin {changed} has changed since this run began", file=sys.stderr)
        self.check_same()  # another process may have begun it since
        # of a run that was killed right before its end: the files are about to change
        (self.path / PROVENANCE).unlink(missing_ok=True)
        overrides = OmegaConf.to_yaml(OmegaConf.create(list(self.overrides)))
        config = OmegaConf.to_yaml(OmegaConf.create(self.config))
        write_text(self.path / "overrides.yaml", overrides)
        header = f"# diffgeo {__version__}\n{made_with.comment(self.plugins)}"
        write_text(self.path / "config.yaml", header + config)
        print(f"run folder: {self.path}", flush=True)
        return False

    def check_same(self) -> None:
        """Raise UsageError when the folder holds another run, or a finished one that was made from
        something else than its options name now."""
        if not (self.path / "config.yaml").exists():
            return
        different = self.differs_from(OmegaConf.to_container(read_config(self.path)))
        if different:
            raise UsageError(
                f"{self.path} holds another run (it differs in {different[0]}): write another "
                "folder, or take it up as it was"
            )
        if not (self.path / "metrics.json").exists():
            return
        made_from = digest.provenance(self.path)["inputs"]
        for option, now in self.inputs.items():
            if made_from.get(option, now) != now:
                value = OmegaConf.select(OmegaConf.create(self.config), option)
                what = "weights" if option == "run" else "contents"
                raise UsageError(
                    f"{self.path} is finished, and the {what} of {option}={value} have changed "
                    f"since: write another folder (hydra.run.dir=), or delete {self.path} to make "
                    "it again"
                )
        for changed in made_with.changed_since(self.path / "config.yaml", self.plugins):
            raise UsageError(
                f"{self.path} is finished, and the plugin {changed} has changed since: write "
                f"another folder (hydra.run.dir=), or delete {self.path} to make it again"
            )

    def differs_from(self, other: dict) -> list[str]:
        """The keys, sorted, in which another config differs from this one, but for those that a run
        may be taken up again with otherwise set. An option that is off is as if it were not there:
        an older diffgeo had no such option."""
        pairs = set_in(other).items() ^ set_in(self.config).items()
        keys = sorted({key for key, _ in pairs})
        return [key for key in keys if key not in FREE and key.split(".")[0] not in FREE]

    def finish(
        self,
        values: Mapping[str, float | None],
        device: torch.device | str = "cpu",
        **measured,
    ) -> None:
        """Write what made this run (versions, commit, device, seed, command, what was measured:
        seconds, evaluations), with a digest of every file of numbers that is there; and last of all
        its `values`, metrics.json."""
        device = torch.device(device)
        used = [*PACKAGES, *(name for name in LIBRARIES if name in sys.modules)]
        versions = {name: importlib.metadata.version(name) for name in used}
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        record = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "git_commit": commit(),
            "packages": {"diffgeo": __version__} | versions,
            "device": gpu,
            "threads": torch.get_num_threads(),
            "seed": self.config["seed"],
            "command": shlex.join(["diffgeo", *self.command.split(), *self.overrides]),
        }
        metrics = json_text(values)
        files = digest.of_folder(self.path) | {"metrics.json": digest.of_bytes(metrics.encode())}
        record |= measured | {"files": files, "inputs": self.inputs, "plugins": self.plugins}
        write_json(self.path / PROVENANCE, record)
        write_text(self.path / "metrics.json", metrics)


def recorded_values(config: DictConfig) -> dict:
    """A config as it is recorded, plain values: resolved, but for what a resolver would fill in.
    ${oc.env:X} stays as it was typed, so that nothing of the environment ends in a file or at
    W&B."""
    typed = OmegaConf.to_container(config)
    return OmegaConf.to_container(OmegaConf.create(unfollowed(typed)), resolve=True)


def inputs_of(command: str, config: dict) -> dict[str, str]:
    """The digests of what the config of a command names, by option: of run= the weights, which
    `evaluate` measures with its samples. What is not there has none."""
    found = {}
    node = OmegaConf.create(config)
    for option in INPUTS:
        value = OmegaConf.select(node, option)
        if not isinstance(value, str):
            continue
        named = [Path(value)]
        if option == "run":
            named = [weights_of(Path(value))]
            if command == "evaluate":
                named.append(Path(value) / "samples.npy")
        there = [digest.of_path(path).encode() for path in named if path.exists()]
        if there:
            found[option] = digest.of_bytes(*there)
    return found


def how_to_go_on(command: str, path: Path) -> str:
    """What to type when the run in `path` was stopped."""
    if command == "train":
        return f"go on with: diffgeo train resume={path}"
    return f"the same line with hydra.run.dir={path} goes on"


def taken(path: Path) -> bool:
    """Take a folder to write it: whether it is finished already, which is said. Otherwise no other
    process may write it until the job ends, and what dead ones left half written is removed.

    Raises DiffgeoError, naming who holds it, where another process writes it.
    """
    if finished(path):
        shards.remove(path / "shards")  # of a process that was killed in its last moment
        tidy(path)
        return True
    take(path)
    return finished(path)  # by the process that held it until now


def finished(path: Path) -> bool:
    """Whether a folder is finished; if so, it is said."""
    if not (path / "metrics.json").exists():
        return False
    print(f"{path} is finished; its metrics are in {path / 'metrics.json'}")
    return True


def flat(node, prefix: str = "") -> dict[str, str]:
    """A nested config as {dotted key: printed value}."""
    if not isinstance(node, dict):
        return {prefix: repr(node)}
    found = {}
    for key, child in node.items():
        found |= flat(child, f"{prefix}.{key}" if prefix else str(key))
    return found


def set_in(config: dict) -> dict[str, str]:
    """`flat`, without the options that are off."""
    return {key: value for key, value in flat(config).items() if value not in OFF}


def read_config(path: Path) -> DictConfig:
    """The config of a run folder, in which no resolver is followed. Raises DiffgeoError where it
    cannot be read or is not what was written, UsageError where an older diffgeo wrote it."""
    file = path / "config.yaml"
    found = read_yaml(file)
    if not isinstance(found, dict):
        raise DiffgeoError(f"{file} is damaged: it is no config")
    written_by(file)
    made_with.check_made_with(path, found.get("plugins"))
    return OmegaConf.create(unfollowed(found))


# models


def weights_of(path: Path) -> Path:
    """The weights of the run in `path`, or of the run that it was sampled from, whether they are
    there or not. Raises DiffgeoError."""
    seen = {path.resolve()}
    while not (path / "checkpoint").exists() and (origin := read_config(path).get("run")):
        path = Path(origin)
        if path.resolve() in seen:
            raise DiffgeoError(f"{path}/config.yaml: run= leads back to itself, not to a network")
        seen.add(path.resolve())
    return path / "checkpoint" / "model.safetensors"


def weigh(model: Denoiser, path: Path) -> None:
    """Load the weights of the run in `path`, or of the run that it was sampled from, into a model,
    which is then in evaluation mode; nothing when it has none to train, or came with its own."""
    if not trainable(model):
        return
    weights = weights_of(path)
    if weights.parent.exists() or not pretrained(model):
        load_weights(verified(weights), model)
    model.eval()


def load(path: Path) -> Experiment:
    """The experiment of a run folder as it was resolved, with the weights it was trained to; its
    simulation draws the run's own samples."""
    experiment = assemble(read_config(path))
    weigh(experiment.model, path)
    return fitted(experiment)


def loaded(config: DictConfig, device: torch.device) -> tuple[Data, Denoiser]:
    """The law, and its model with the weights of the run that the config names."""
    data, model = make(config, device)
    if not trainable(model):
        return data, model
    if config.run is None and pretrained(model):
        return data, model.eval()
    if config.run is None:
        raise UsageError(
            "a network needs its weights: write run=FOLDER of a trained run, or model=exact for "
            "the law's own denoiser"
        )
    weigh(model, Path(config.run))
    return data, model


_last: dict[str, tuple[Data, Denoiser, float]] = {}  # one entry


def shared(config: DictConfig, device: torch.device) -> tuple[Data, Denoiser]:
    """`loaded`, or the last job's when this one asks for the same: a sweep over samplers loads its
    model once."""
    groups = OmegaConf.masked_copy(config, ["data", "model", "net", "sigma_data", "seed"])
    asked = f"{OmegaConf.to_yaml(groups)} {Path(config.run or '').resolve()} {device}"
    if asked not in _last:
        data, model = loaded(config, device)
        _last.clear()
        _last[asked] = data, model, config.sigma_data
    data, model, config.sigma_data = _last[asked]
    return data, model


def take_model(config: DictConfig, overrides: Sequence[str]) -> None:
    """With run= the model is the run's, where the line chooses none: the default of such a command
    is the exact denoiser."""
    if config.run is not None and "model" not in map(key_of, overrides):
        with open_dict(config):
            config.model = read_config(Path(config.run)).model
