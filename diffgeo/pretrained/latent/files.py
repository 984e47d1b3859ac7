"""The safetensors files of a part of a diffusers folder, by their headers, and their tensors.

    [8 bytes: length of the header]  [header: JSON, name -> dtype, shape, begin and end]  [bytes]

A part has one file, one of half precision (model.fp16.safetensors), or shards that an index lists.
Pickled files (.bin, .ckpt) are refused: nothing is unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.pretrained.archive import as_float32, contents
from diffgeo.store.files import read_json

STEMS = ("diffusion_pytorch_model", "model")  # of diffusers' files, of transformers'
VARIANTS = ("", ".fp16")
END = ".safetensors"
PICKLED = (".bin", ".ckpt", ".pt", ".msgpack", ".h5", ".onnx")
LARGEST_HEADER = 100_000_000  # of the format


def weight_files(folder: Path, source: str) -> tuple[Path, ...]:
    """The files of one network, each whole by its header. Raises UsageError where there is none."""
    for variant in VARIANTS:
        for stem in STEMS:
            single = folder / f"{stem}{variant}{END}"
            if single.is_file():
                check_header(single, source)
                return (single,)
            listed = index_of(folder, stem, variant)
            if listed is not None:
                return shards(listed, source)
    others = sorted(file.name for file in folder.glob("*") if file.suffix in PICKLED)
    if others:
        raise UsageError(
            f"{source} has {others[0]} and no {END} file: pickles are not opened; fetch the "
            f"{END} files, or save the pipeline anew with safe_serialization=True"
        )
    raise UsageError(f"{source} has no {STEMS[0]}{END} or {STEMS[1]}{END}; fetch its weights")


def index_of(folder: Path, stem: str, variant: str) -> Path | None:
    """The file that lists the shards; the variant stands before or after "index"."""
    for name in (f"{stem}{END}.index{variant}.json", f"{stem}{variant}{END}.index.json"):
        if (folder / name).is_file():
            return folder / name
    return None


def shards(listed: Path, source: str) -> tuple[Path, ...]:
    """The files that an index lists. Raises UsageError where one is not beside it."""
    try:
        names = sorted(set(read_json(listed)["weight_map"].values()))
    except (DiffgeoError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{source}: {listed.name} cannot be read; fetch it again") from error
    files = []
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(END):
            raise UsageError(f"{source}: {listed.name} lists {name!r}, which is no file beside it")
        if not (listed.parent / name).is_file():
            raise UsageError(f"{source}: {name}, which {listed.name} lists, is not there")
        check_header(listed.parent / name, source)
        files.append(listed.parent / name)
    return tuple(files)


def check_header(file: Path, source: str) -> None:
    """Raise UsageError unless a file is as long as its header says."""
    size = file.stat().st_size
    damaged = f"{source}/{file.name} is damaged or no safetensors file; fetch it again"
    with open(file, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 10 or length > min(size - 8, LARGEST_HEADER):
            raise UsageError(damaged)
        try:
            header = json.loads(opened.read(length))
            entries = {name: said for name, said in header.items() if name != "__metadata__"}
            end = max((said["data_offsets"][1] for said in entries.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            raise UsageError(damaged) from None
    if type(end) is not int or 8 + length + end != size:
        raise UsageError(
            f"{source}/{file.name} has {size} bytes, and its header speaks of {8 + length + end}: "
            "it was cut short; fetch it again"
        )


def read_weights(files: tuple[Path, ...], source: str) -> dict[str, Tensor]:
    """The tensors of a network by name, float32, on the CPU. Raises UsageError on a name in two
    files, and on numbers that are not finite."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        said = f"{source}/{file.name}"
        found = contents(file, said)
        assert isinstance(found, dict)  # of a safetensors file
        # whole numbers 0, 1, 2, ... that the first versions of the library saved
        found = {name: value for name, value in found.items() if not name.endswith("position_ids")}
        for name, value in as_float32(found, file, said).items():
            if name in tensors:
                raise UsageError(f"{said}: {name} is in another file too; fetch them again")
            tensors[name] = value
    return tensors
