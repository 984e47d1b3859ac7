"""Configs as the tests ask for them, each composed once: Hydra takes a quarter of a second."""

from copy import deepcopy
from functools import cache

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from diffgeo.config.line import conf_dir


@cache
def _composed(name: str | None, overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(name, list(overrides))


def composed(name: str | None, *overrides: str) -> DictConfig:
    """The config of a command, or of nothing but the overrides; the caller's own, to change."""
    return deepcopy(_composed(name, overrides))


def every(group: str, *overrides: str) -> dict[str, DictConfig]:
    """Every config of a group by the name of its file, all in one composition: that of FILE is
    FILE.key=value to an override."""
    names = sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))
    choices = [f"+{group}@{name}={name}" for name in names]
    config = composed(None, *choices, *overrides)
    return {name: config[name] for name in names}
