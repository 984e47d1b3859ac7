"""Where in a checkpoint the weights are. People wrap a state dict as they like:

    {'state_dict': ...}   {'model': ..., 'ema': ...}   [model, optimizer, epoch, step, ema]
    module.NAME           _orig_mod.NAME               ema_model.module.NAME

of data-parallel training, torch.compile, moving averages. A network has a tensor that no other kind
of network has, its landmark: wherever a name ends in that of the landmark, what comes before is the
wrapping, and the tensors with the same wrapping are the network.

Of several networks in a file the moving average is taken, which is what its authors sampled.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from diffgeo.errors import UsageError

DEPTH = 4  # of containers
DDIM_LIST = ("model", "optimizer", "epoch", "step", "ema")  # as DDIM's code saves
AVERAGE = re.compile(r"(^|[_.])(ema|averaged?|shadow)([_.\d]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A network in a file: its wrapping, the empty string where there is none, and its tensors by
    their own names."""

    wrapping: str
    tensors: dict[str, Tensor]

    @property
    def average(self) -> bool:
        return AVERAGE.search(self.wrapping) is not None

    @property
    def called(self) -> str:
        return self.wrapping.rstrip(".") or "the bare names"


def unwrapped(contents: object, landmark: str, source: str) -> dict[str, Tensor]:
    """The tensors of the network with this landmark; of a file with one state dict and no such
    network, that dict. Prints which of several was taken.

    Raises UsageError where there is none, or several and no single average among them.
    """
    dicts = list(state_dicts(contents))
    if not dicts:
        raise UsageError(
            f"{source} holds no state dict of tensors: save the model's state_dict() alone"
        )
    found = [network for place, tensors in dicts for network in networks(place, tensors, landmark)]
    if not found and len(dicts) == 1:
        (_, tensors) = dicts[0]
        return bare(tensors)
    if not found:
        held = ", ".join(f"{place} ({few(tensors)})" for place, tensors in dicts[:5])
        raise UsageError(f"{source} holds {held}, and nowhere a {landmark}: write another file")
    averages = [network for network in found if network.average]
    chosen = averages or found
    if len(chosen) > 1:
        names = ", ".join(network.called for network in chosen)
        raise UsageError(
            f"{source} holds several networks, {names}: save the state_dict() of one alone"
        )
    if chosen[0].wrapping.replace("module.", "") or len(found) > 1:
        others = [network.called for network in found if network is not chosen[0]]
        of = f", a moving average, and not {', '.join(others)}" if others else ""
        print(f"{source}: the weights are those of {chosen[0].called}{of}", file=sys.stderr)
    return chosen[0].tensors


def state_dicts(
    contents: object, place: str = "", depth: int = DEPTH, seen: set[int] | None = None
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(where, tensors by name) of every dict with tensors in nested containers, each once."""
    seen = set() if seen is None else seen
    if depth == 0 or id(contents) in seen:
        return
    seen.add(id(contents))
    items: Mapping
    if isinstance(contents, list | tuple):
        names = DDIM_LIST if len(contents) == len(DDIM_LIST) else range(len(contents))
        items = dict(zip(names, contents, strict=True))
    elif isinstance(contents, dict):
        items = contents
    else:
        return
    tensors = {
        name: value
        for name, value in items.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if tensors and isinstance(contents, dict):
        yield place, tensors
    for name, value in items.items():
        if isinstance(value, dict | list | tuple):
            yield from state_dicts(value, f"{place}{name}.", depth - 1, seen)


def networks(place: str, tensors: dict[str, Tensor], landmark: str) -> list[Found]:
    """The networks in one dict of tensors, by the prefixes of their landmarks. Raises UsageError
    where two tensors come to one name."""
    compiled: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        plain = ".".join(part for part in name.split(".") if part != "_orig_mod")
        if plain in compiled:
            raise UsageError(f"{place}{plain} is there with and without _orig_mod.: save one alone")
        compiled[plain] = tensor
    prefixes = [
        name.removesuffix(landmark)
        for name in compiled
        if name == landmark or name.endswith(f".{landmark}")
    ]
    found: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in prefixes}
    for name, tensor in compiled.items():
        # the longest of those that a name begins with: "" is the beginning of all
        fitting = max((p for p in prefixes if name.startswith(p)), key=len, default=None)
        if fitting is not None:
            found[fitting][name.removeprefix(fitting)] = tensor
    return [Found(place + prefix, named) for prefix, named in found.items()]


def bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes of data-parallel training and torch.compile."""
    plain = {}
    for name, tensor in tensors.items():
        parts = [part for part in name.split(".") if part not in ("_orig_mod", "module")]
        plain[".".join(parts)] = tensor
    return plain


def few(tensors: dict[str, Tensor]) -> str:
    """The first names."""
    names = list(tensors)
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
