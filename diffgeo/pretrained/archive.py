"""The tensors in a file of weights, whoever made it. Nothing is unpickled but by torch's own reader
of tensors (weights_only), and a file is looked at before it is read: what it claims to hold has to
be there.

    .safetensors    a header of lengths, and the bytes; its reader checks the one by the other
    .pt, .ckpt      a zip of uncompressed records and one pickle (torch 1.6 and later), or pickles
                    followed by the bytes (before)

Errors are UsageErrors of one line.
"""

from __future__ import annotations

import itertools
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from diffgeo.errors import UsageError
from diffgeo.store.checkpoint import load_tensors

ZIP = b"PK\x03\x04"
OLD = pickle.dumps(0x1950A86A20F9469CFC6C, 2)  # with which torch's files before 1.6 begin
OLD_PICKLES = 5  # the number above, a version, sizes of C types, the object, names of storages
# of a pickle; one of tensors has about forty a tensor, and more are a minute's work for nothing
MOST_OPERATIONS = 500_000
OBJECTS = (
    "not tensors alone, and is not unpickled: save its state_dict() with torch.save or as "
    "safetensors, where it was made"
)


def contents(path: Path, source: str) -> object:
    """What a .safetensors or torch file holds, on the CPU, by its first bytes and not by its name:
    a dict of tensors, or whatever containers somebody put them into.

    source: how messages call the file. Raises UsageError.
    """
    if path.is_dir():
        raise UsageError(f"{source} is a folder; write the path of a checkpoint in it")
    if not path.is_file():
        raise UsageError(f"{source}: there is no such file; write the path of a checkpoint")
    damaged = f"{source} cannot be read as weights: it is damaged, or no safetensors or torch file"
    try:
        with open(path, "rb") as file:
            start = file.read(len(OLD))
    except OSError as error:
        raise UsageError(
            f"{source} cannot be read: {error.strerror}; write another file"
        ) from error
    if not start:
        raise UsageError(f"{source} is empty; fetch it again")
    if not start.startswith((ZIP, OLD)) and start[8:9] != b"{":
        if start[0] == 0x80:
            raise UsageError(f"{source} holds Python objects, {OBJECTS}")
        raise UsageError(damaged)
    try:
        if start[8:9] == b"{":
            return load_tensors(path)[0]
        check_claims(path, start, source)
        return torch.load(path, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except pickle.UnpicklingError as error:
        kind = re.search(r"GLOBAL ([\w.]+)", str(error))
        held = f"Python objects ({kind[1]})" if kind else "Python objects"
        raise UsageError(f"{source} holds {held}, {OBJECTS}") from error
    except Exception as error:  # zip and safetensors raise a dozen kinds
        raise UsageError(damaged) from error


def check_claims(path: Path, start: bytes, source: str) -> None:
    """Raise UsageError where a torch file would unfold to more than it is."""
    if start.startswith(OLD):
        with open(path, "rb") as file:
            check_pickle(file, source, OLD_PICKLES)
        return
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        held = sum(record.file_size for record in records)
        compressed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
        if compressed or held > path.stat().st_size:
            raise UsageError(
                f"{source} claims {held} bytes and has {path.stat().st_size}: torch does not "
                "compress; save it again with torch.save"
            )
        for record in records:
            if record.filename.endswith("data.pkl"):
                with archive.open(record) as file:
                    check_pickle(file, source, 1)


def check_pickle(file: IO[bytes], source: str, pickles: int) -> None:
    """Raise UsageError where the next pickles of a file have more operations than one of tensors
    has."""

    def operations() -> Iterator:
        for _ in range(pickles):
            yield from pickletools.genops(file)

    if next(itertools.islice(operations(), MOST_OPERATIONS, None), None) is not None:
        raise UsageError(
            f"{source} has a pickle of more than {MOST_OPERATIONS} operations: that is no state "
            f"dict; it holds Python objects, {OBJECTS}"
        )


def as_float32(tensors: dict[str, Tensor], path: Path, source: str) -> dict[str, Tensor]:
    """Weights as the network takes them. Raises UsageError that names the first tensor which is
    none: of whole numbers, not dense, larger than its file, or not finite."""
    held = 0
    for name, tensor in tensors.items():
        dense = tensor.layout == torch.strided and not tensor.is_quantized
        if not dense or tensor.device.type != "cpu" or not tensor.is_floating_point():
            raise UsageError(
                f"{source}: {name} is no dense tensor of floats but {tensor.dtype}, "
                f"{tensor.layout}, on {tensor.device}; save weights as float32"
            )
        size = tensor.numel() * tensor.element_size()
        held += size
        # one number stands for many where a stride is 0; tensors may share their bytes
        if size > tensor.untyped_storage().nbytes() or held > 4 * path.stat().st_size:
            raise UsageError(
                f"{source}: {name} claims {size} bytes, more than the file holds; save it again, "
                "each tensor contiguous"
            )
    found = {}
    for name, tensor in tensors.items():
        weights = tensor.detach().to(torch.float32)
        bad = 0
        # a sum with a term that is not finite is not, and costs a twentieth of looking at each
        if not torch.isfinite(weights.sum()):
            bad = int((~torch.isfinite(weights)).sum())
        if bad:
            raise UsageError(
                f"{source}: {name} has {bad} of {weights.numel()} numbers that are not finite; "
                "fetch it again, or take an earlier checkpoint"
            )
        found[name] = weights
    return found
