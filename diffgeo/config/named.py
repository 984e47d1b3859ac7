"""What conf/ names: the choices of a group, and a sampler or a law built by its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffgeo.config.line import conf_dir
from diffgeo.config.words import Reader
from diffgeo.core import Data, Sampler
from diffgeo.errors import UsageError


def names(group: str) -> list[str]:
    """The choices of a group of conf/."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


@contextmanager
def another_hydra() -> Iterator[None]:
    """Room for a config that is composed while Hydra runs a command: it holds one at a time."""
    from hydra.core.global_hydra import GlobalHydra

    only = GlobalHydra.instance()
    held = only.hydra
    only.hydra = None
    try:
        yield
    finally:
        only.hydra = held


def sampler(name: str, steps: int = 20) -> Sampler:
    """The sampler of conf/sampler/NAME.yaml, in whose config a step count may stand."""
    from hydra import compose, initialize_config_dir

    from diffgeo.config.build import method_of

    with another_hydra(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(overrides=[f"+sampler={name}", f"sampler.steps={steps}"])
    return method_of(config.sampler)


def law(name: str) -> Data:
    """The law of conf/data/NAME.yaml."""
    from omegaconf import OmegaConf

    from diffgeo.config.build import build

    return build(OmegaConf.load(conf_dir() / "data" / f"{name}.yaml"))


def laws(text: str) -> list[str]:
    """Names of conf/data, with commas between. Raises UsageError on others."""
    there = names("data")
    asked = text.split(",")
    if unknown := set(asked) - set(there):
        raise UsageError(
            f"there is no law {', '.join(sorted(unknown))}; write laws= some of {', '.join(there)}"
        )
    return asked


LAWS = Reader(laws, "names of conf/data with commas between")
