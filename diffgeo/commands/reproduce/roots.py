"""Which commands of a reproduction read a set of images: those are handed its data.root=."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from diffgeo.config.line import conf_dir


def reads_images(command: str) -> bool:
    """Whether a command names a set of images, by data= or by an experiment's."""
    for word in command.split():
        group, _, name = word.partition("=")
        if group == "data" and has_root(name):
            return True
        if group == "experiment" and has_root(data_of(name)):
            return True
    return False


def has_root(data: str | None) -> bool:
    """Whether a law of conf/data is read from below data.root."""
    path = conf_dir() / "data" / f"{data}.yaml"
    return path.exists() and "root" in OmegaConf.load(path)


def data_of(experiment: str) -> str | None:
    """The law that an experiment chooses."""
    path: Path = conf_dir() / "experiment" / f"{experiment}.yaml"
    for default in OmegaConf.load(path).get("defaults", []):
        if "override /data" in default:
            return default["override /data"]
    return None
