"""What conf/ names: the choices of a group, and a sampler or a law built by its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from diffgeo.config.mistakes import listing
from diffgeo.config.nearest import advice
from diffgeo.config.plugins import choices, conf_dir, find
from diffgeo.config.words import Reader
from diffgeo.core import Data, Sampler
from diffgeo.errors import UsageError
from diffgeo.inverse.algorithm import Algorithm


def names(group: str) -> list[str]:
    """The choices of a group, of conf/ and of the plugins."""
    return choices(group)


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
    from diffgeo.config.plugins import searchpath

    searchpath.join()
    with another_hydra(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(overrides=[f"+sampler={name}", f"sampler.steps={steps}"])
    return method_of(config.sampler)


def law(name: str) -> Data:
    """The law of conf/data/NAME.yaml. Raises UsageError on a name that there is not."""
    from omegaconf import OmegaConf

    from diffgeo.config.build import build

    return build(OmegaConf.load(file_of("data", name)))


def file_of(group: str, name: str) -> Path:
    """The file of a choice. Raises UsageError on a name that there is not."""
    file = find(f"{group}/{name}")
    if file is None:
        told = advice(name, names(group), listing(group))
        raise UsageError(f"there is no {group} {name}{told}")
    return file


def algorithm(name: str, options: Mapping[str, object] = {}) -> Algorithm:
    """The algorithm of conf/algorithm/NAME.yaml, with other options where some are given. Raises
    UsageError on a name or an option that there is not."""
    from omegaconf import OmegaConf

    from diffgeo.config.build import build

    node = OmegaConf.to_container(OmegaConf.load(file_of("algorithm", name)))
    assert isinstance(node, dict)
    for key, value in options.items():
        if key not in node or key.startswith("_"):
            known = [str(own) for own in node if not str(own).startswith("_")]
            told = advice(key, known, f"`diffgeo help algorithm={name}`") if known else ": none"
            raise UsageError(f"algorithm={name} has no option {key}{told}")
        node[key] = value
    return build(OmegaConf.create({"algorithm": node}).algorithm)


def algorithm_options(node) -> dict[str, dict]:
    """`options=`, what algorithms are given other than in their own configs, by name. Raises
    UsageError."""
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
    if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
        raise UsageError("options= takes options by algorithm: write options.diffpir.zeta=.3")
    there = names("algorithm")
    if unknown := sorted(set(values) - set(there)):
        told = advice(unknown[0], there, listing("algorithm"))
        raise UsageError(f"options.{unknown[0]}: there is no such algorithm{told}")
    return {str(name): own for name, own in values.items()}


def laws(text: str) -> list[str]:
    """Names of conf/data, with commas between. Raises UsageError on others."""
    there = names("data")
    asked = text.split(",")
    for name in asked:
        if name not in there:
            raise UsageError(f"there is no law {name}{advice(name, there, listing('data'))}")
    return asked


LAWS = Reader(laws, "names of conf/data with commas between")
