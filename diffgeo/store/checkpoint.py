"""Checkpoints: tensors and a resolved config, never a pickled class.

    checkpoint/model.safetensors    the weights to sample from, by parameter name: the moving
                                    average, where there is one
    checkpoint/state.safetensors    all that training needs to go on: weights, average, Adam's
                                    moments, and the step
    checkpoint/clock.json           seconds spent so far; apart, since on a CPU the two files above
                                    are reproducible to the byte

Each file is replaced in one rename, so a run killed at any moment finds a whole one, and carries
the digest of its contents, so that a flipped bit is no weight. The random numbers need no state:
batch k is drawn from a generator keyed by (seed, k).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diffgeo.errors import DiffgeoError
from diffgeo.store.digest import of_bytes
from diffgeo.store.files import atomic, read_json, write_json

ENTRY = "diffgeo"  # of the metadata: what is said of the tensors, and the digest of all, as JSON
MARK = "sha256:"  # in front of a digest, so that one is known by it whatever its name has become


def digest_of(tensors: dict[str, Tensor], **facts: str) -> str:
    """The sha256 of tensors and of what is said of them: names, dtypes, shapes, bytes."""
    parts = [json.dumps(facts, sort_keys=True).encode()]
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        parts.append(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        parts.append(value.flatten().view(torch.uint8).numpy().data)
    return MARK + of_bytes(*parts)


def save_tensors(path: Path, tensors: dict[str, Tensor], **metadata: object) -> None:
    """Write tensors, what is said of them, and the digest of both, to a safetensors file."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    facts = {name: str(value) for name, value in metadata.items()}
    said = facts | {"digest": digest_of(plain, **facts)}
    # in one entry: several would be written in any order
    page = {ENTRY: json.dumps(said, sort_keys=True, separators=(",", ":"))}
    size = sum(value.nbytes for value in plain.values())
    with atomic(path, size) as temporary:
        try:
            save_file(plain, temporary, page)
        except SafetensorError as error:  # its word for a full disk
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else None, str(error)) from error


def load_tensors(
    path: Path, device="cpu", cure: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and what is said of them. A file of another program, or of
    an older diffgeo, names no digest and is taken as it is.

    cure: what to do about a damaged file, in words.
    Raises DiffgeoError when the file is missing, or is not what was written.
    """
    cure = cure or f"restore it, or delete {path.parent} to train again from the start"
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            said = file.metadata() or {}
        facts, written = facts_of(said)
    except FileNotFoundError as error:
        raise DiffgeoError(
            f"{path} does not exist: the run has no checkpoint; train it with "
            f"resume={path.parent.parent}"
        ) from error
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise DiffgeoError(f"{path} is damaged ({error}); {cure}") from error
    if written is not None and written != digest_of(tensors, **facts):
        raise DiffgeoError(f"{path} is damaged: its contents are not what was written; {cure}")
    return {name: value.to(device) for name, value in tensors.items()}, facts


def facts_of(said: dict[str, str]) -> tuple[dict[str, str], str | None]:
    """The facts in the metadata of a file, and the digest that it was written with; None where it
    names none. Raises ValueError where an entry of ours is damaged."""
    if ENTRY not in said:
        if any(MARK in value for value in said.values()):
            raise ValueError("its digest has lost its name")
        return said, None
    facts = json.loads(said[ENTRY])
    if not isinstance(facts, dict) or "digest" not in facts:
        raise ValueError("its digest is missing")
    written = facts.pop("digest")
    return facts, str(written)


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
    law: str = "",
) -> None:
    """Write one checkpoint; `law` is the key of what it was trained on. The state goes last: it
    decides where a resumed run goes on."""
    save_tensors(folder / "model.safetensors", weights, step=step)
    write_json(folder / "clock.json", {"training_cpu_s": cpu_s, "training_wall_s": wall_s})
    save_tensors(folder / "state.safetensors", tensors, step=step, law=law)


def load_state(
    folder: Path, device, law: str = ""
) -> tuple[dict[str, Tensor], int, dict[str, float]]:
    """(state tensors, step, seconds so far). Raises DiffgeoError when damaged, or of a training on
    another law than that of the key `law`."""
    path = folder / "state.safetensors"
    tensors, metadata = load_tensors(path, device)
    if not metadata.get("step", "").isdigit():
        raise DiffgeoError(
            f"{path} holds no training step; delete the folder {folder} to train again from the "
            "start"
        )
    if law and metadata.get("law", law) != law:
        raise DiffgeoError(
            f"{path} is of a training on other data: what data= names has changed since; restore "
            "it, or begin a new run"
        )
    return tensors, int(metadata["step"]), read_json(folder / "clock.json")


def has_state(folder: Path) -> bool:
    return (folder / "state.safetensors").exists()


def is_finite(tensors: dict[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(v).all()) for v in tensors.values() if v.is_floating_point())
