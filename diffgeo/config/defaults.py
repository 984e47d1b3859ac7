"""The config of a command when nothing else is typed: what a run is told apart from."""

from __future__ import annotations

from diffgeo.config.catalogue import commands
from diffgeo.config.plugins import conf_dir
from diffgeo.config.strangers import unfollowed


def default_config(command: str) -> dict:
    """The config of `diffgeo COMMAND` alone, as a run records its own: plain values, in which no
    resolver is followed. The command must be one with a config."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose(commands()[command].path)
    typed = unfollowed(OmegaConf.to_container(composed))
    return OmegaConf.to_container(OmegaConf.create(typed), resolve=True)
