"""Checkpoints: tensors and a resolved config, never a pickled class.

    checkpoint/model.safetensors    the weights to sample from, by parameter name: the moving
                                    average, where there is one
    checkpoint/state.safetensors    all that training needs to go on: weights, average, Adam's
                                    moments, and the step
    checkpoint/clock.json           seconds spent so far; apart, since on a CPU the two files above
                                    are reproducible to the byte

Each file is replaced in one rename, so a run killed at any moment finds a whole one. The random
numbers need no state: batch k is drawn from a generator keyed by (seed, k).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diffgeo.errors import DiffgeoError
from diffgeo.store.files import atomic, read_json, write_json


def save_tensors(path: Path, tensors: dict[str, Tensor], **metadata: object) -> None:
    """Write tensors, and what is said of them, to a safetensors file."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    facts = {name: str(value) for name, value in metadata.items()}
    size = sum(value.nbytes for value in plain.values())
    with atomic(path, size) as temporary:
        try:
            save_file(plain, temporary, facts)
        except SafetensorError as error:  # its word for a full disk
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else None, str(error)) from error


def load_tensors(path: Path, device="cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a safetensors file. Raises DiffgeoError when it is missing or
    damaged."""
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except FileNotFoundError as error:
        raise DiffgeoError(
            f"{path} does not exist: the run has no checkpoint; train it with "
            f"resume={path.parent.parent}"
        ) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise DiffgeoError(
            f"{path} is damaged ({error}); restore it, or delete {path.parent} to train again from "
            "the start"
        ) from error


def mismatches(
    own: dict[str, Tensor], held: dict[str, Tensor], names: Callable[[str], str] = str
) -> str:
    """The first three of a network's own tensors and a file's that are absent on one side or of
    different shapes, in words; "" where all fit.

    names: what the file calls one of the network's.
    """

    def shape(tensors: dict[str, Tensor], name: str) -> str:
        return str(tuple(tensors[name].shape)) if name in tensors else "absent"

    wrong = []
    for name in dict.fromkeys([*own, *held]):
        here = shape(own, name)
        there = shape(held, name)
        if here != there:
            called = names(name) if name in own else name
            wrong.append(f"{called} is {there} in the file, {here} in the network")
    if len(wrong) > 3:
        return "; ".join(wrong[:3]) + f"; and {len(wrong) - 3} more"
    return "; ".join(wrong)


def load_weights(path: Path, module: nn.Module) -> None:
    """Copy the weights of `path` into `module`, strictly. Raises DiffgeoError that names the first
    tensors that do not fit."""
    tensors, _ = load_tensors(path)
    if wrong := mismatches(module.state_dict(), tensors):
        raise DiffgeoError(
            f"{path} belongs to another network: {wrong}; write the net= and model= of its run"
        )
    module.load_state_dict(tensors)


def save_state(
    folder: Path,
    tensors: dict[str, Tensor],
    step: int,
    weights: dict[str, Tensor],
    cpu_s: float,
    wall_s: float,
) -> None:
    """Write one checkpoint. The state goes last: it decides where a resumed run goes on."""
    save_tensors(folder / "model.safetensors", weights, step=step)
    write_json(folder / "clock.json", {"training_cpu_s": cpu_s, "training_wall_s": wall_s})
    save_tensors(folder / "state.safetensors", tensors, step=step)


def load_state(folder: Path, device) -> tuple[dict[str, Tensor], int, dict[str, float]]:
    """(state tensors, step, seconds so far). Raises DiffgeoError when damaged."""
    path = folder / "state.safetensors"
    tensors, metadata = load_tensors(path, device)
    if not metadata.get("step", "").isdigit():
        raise DiffgeoError(
            f"{path} holds no training step; delete the folder {folder} to train again from the "
            "start"
        )
    return tensors, int(metadata["step"]), read_json(folder / "clock.json")


def has_state(folder: Path) -> bool:
    return (folder / "state.safetensors").exists()


def is_finite(tensors: dict[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(v).all()) for v in tensors.values() if v.is_floating_point())
