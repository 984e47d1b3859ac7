"""Which objects a config may build. `_target_` is a name, and a name can reach any callable of the
interpreter; so each slot of a config says from which rooms its objects come, and what is looked at
is the object that the name resolves to, never how the name is written:

    a public class that is defined in one of the slot's rooms, or
    a public function (or classmethod) that is defined there and is annotated to return an object
    of diffgeo's: `data.make -> Law`, not `store.shards.remove -> None`, or
    one that maps tensors to a tensor: how a network sees its noise.

What a slot has built is of its protocol, or it is refused. `diffgeo.data.sources.shutil.rmtree`
resolves to a function of the standard library: its name begins well, and it is no offer.

A plugin of this command line (`plugins`) is a room of every slot: what it defines itself is held to
the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from typing_extensions import get_protocol_members

from diffgeo.config import plugins
from diffgeo.config.kinds import located
from diffgeo.core import Data, Metric, Sampler, Schedule
from diffgeo.data.sampled import Draws, Sampled
from diffgeo.errors import UsageError
from diffgeo.inverse.algorithm import Algorithm

OURS = "diffgeo."


class Slot(NamedTuple):
    """A place in a config.

    rooms: whose objects it takes.
    protocol: of what it builds.
    base: the class that has most of the protocol already; one of a plugin derives from it.
    partial: whether it builds a partial, which a run calls with its own arguments: they win over
        those of the config, the folder of a logger say.
    module: whether its classes are torch modules: a run gives them a shape, and trains them.
    draws: whether functions that return no object are taken too: the figures of a reproduction.
    """

    rooms: tuple[str, ...]
    protocol: type | None = None
    base: str = ""
    partial: bool = False
    module: bool = False
    draws: bool = False


SLOTS = {
    "data": Slot(("data", "pretrained.latent"), Data, "diffgeo.data.Law"),
    "model": Slot(
        ("denoiser", "pretrained", "data.reference", "parameterization", "schedule"), partial=True
    ),
    "net": Slot(("nn", "parameterization"), partial=True, module=True),
    "schedule": Slot(("schedule",), Schedule),
    "weighting": Slot(("training", "parameterization")),
    "sampler": Slot(("sampler", "schedule"), Sampler, "diffgeo.sampler.base.Method"),
    "metrics": Slot(("metrics",), Metric, "diffgeo.metrics.base.Measure"),
    "operator": Slot(("inverse.operators",), partial=True),
    "algorithm": Slot(("inverse.algorithms",), Algorithm),
    "trainer": Slot(("training",)),
    "preview": Slot(("report.preview",)),
    "loop": Slot(("simulation",), partial=True),
    "logger": Slot(("store.logger",), partial=True),
    "figure": Slot(("commands.reproduce",), partial=True, draws=True),
}
# of a node outside of every slot, which a user of the library or a file of ours has put there
ANYWHERE = Slot(tuple(sorted({room for slot in SLOTS.values() for room in slot.rooms})))


def check(node) -> None:
    """Raise UsageError where a node, or one below it, would build what its slot does not take."""
    if not OmegaConf.is_config(node):
        return
    if isinstance(node, DictConfig) and "_target_" in node:
        check_target(node)
    children = node.values() if isinstance(node, DictConfig) else node
    for child in children:
        check(child)


def check_target(node: DictConfig) -> None:
    """Raise UsageError unless the one object that a node names is offered to its slot."""
    key = node._get_full_key("_target_")
    name = node["_target_"]
    refusal = f"{key}={name} is not offered here: a config may build diffgeo's own classes only"
    # before it is resolved: resolving imports
    parts = str(name).split(".")
    plugin = plugins.owner(str(name))
    known = plugin is not None or str(name).startswith(OURS)
    if not known:
        raise UsageError(f"{refusal}, and those of a package that the line names: {door(parts[0])}")
    if any(part.startswith("_") for part in parts):
        raise UsageError(refusal)
    if "_args_" in node:
        raise UsageError(f"{key}={name} stands beside _args_: write its options by name")
    slot = SLOTS.get(key.split(".")[0], ANYWHERE)
    if slot.partial and key.count(".") == 1 and not node.get("_partial_"):
        raise UsageError(f"{key}={name} needs _partial_: true beside it: a run gives it the rest")
    found = located(node)
    offered = defined_in(found, slot.rooms) and (slot.draws or makes_objects(found))
    if not offered and plugin is not None:
        raise UsageError(
            f"{key}={name} is no offer of the plugin {plugin.name}: name a public class that is "
            "defined in it, or a function there that is annotated to return an object of its or "
            "of diffgeo's"
        )
    not_module = inspect.isclass(found) and not issubclass(found, nn.Module)
    if slot.module and key.count(".") == 1 and not_module:
        raise UsageError(f"{key}={name} makes no network: write a class that is a torch.nn.Module")
    if not offered:
        raise UsageError(f"{refusal}, and takes here those of {OURS}{f', {OURS}'.join(slot.rooms)}")


def door(package: str) -> str:
    """How a package's classes come in."""
    name = package if package.isidentifier() else "mypkg"
    return f"write plugins=[{name}] beside it, if you trust that package"


def defined_in(found: Any, rooms: tuple[str, ...]) -> bool:
    """Whether an object is public and is defined, not only imported, in one of the rooms, or in a
    plugin."""
    if not (inspect.isclass(found) or inspect.isfunction(found) or inspect.ismethod(found)):
        return False
    path = f"{found.__module__}.{found.__qualname__}"
    if any(part.startswith("_") for part in path.split(".")):
        return False
    ours = any(path.startswith(f"{OURS}{room}.") for room in rooms)
    return ours or plugins.owner(path) is not None


def makes_objects(found: Callable) -> bool:
    """Whether a callable is a class, or says that it returns an object of diffgeo's or of a
    plugin's, or maps tensors to a tensor."""
    if inspect.isclass(found):
        return True
    hints = get_type_hints(found)
    result = hints.pop("return", None)
    if result is Tensor:
        return all(hint is Tensor for hint in hints.values())
    several = isinstance(result, UnionType) or get_origin(result) is Union
    results = get_args(result) if several else (result,)
    return any(inspect.isclass(r) and is_known(r.__module__) for r in results)


def is_known(module: str) -> bool:
    """Whether a module is one of ours or of a plugin."""
    return module.startswith(OURS) or plugins.owner(module) is not None


def taken(node, built: Any) -> Any:
    """What a slot takes of what its node has built: the object itself, or for data= the law of
    one that only draws. Raises UsageError where it is not of the slot's protocol."""
    key = node._get_full_key(None) if OmegaConf.is_config(node) else ""
    slot = SLOTS.get(key)
    if slot is None or slot.protocol is None or isinstance(built, slot.protocol):
        return built
    if slot.protocol is Data and isinstance(built, Draws):
        return Sampled(built)
    missing = sorted(name for name in get_protocol_members(slot.protocol) if lacks(built, name))
    advice = f"write {key}= one of its choices"
    if slot.base and plugins.owner(node["_target_"]) is not None:
        advice = f"derive it from {slot.base}, which has most of it"
    raise UsageError(
        f"{key}._target_={node['_target_']} makes no {slot.protocol.__name__.lower()} (it has no "
        f"{', '.join(missing)}): {advice}"
    )


def check_denoiser(node, built: Any) -> None:
    """Raise UsageError where what a model's node has made is no denoiser."""
    if not callable(built):
        raise UsageError(
            f"model._target_={node['_target_']} makes no denoiser: what it returns is called as "
            "D(x, sigma)"
        )


def lacks(built: Any, name: str) -> bool:
    """Whether an object has no member of this name; a property is not computed."""
    try:
        inspect.getattr_static(built, name)
    except AttributeError:
        return True
    return False
