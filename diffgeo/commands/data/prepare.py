"""`diffgeo data prepare NAME [data.root=ROOT] [data.size=64] [data.crop=ddim|140]
[data.path=FOLDER] [data.download=false]`

Put a set of images into the prepared layout under ROOT ($DIFFGEO_DATA, else ~/.cache/diffgeo/data):
from what lies there, from a folder, or through torchvision. A set that is prepared is checked, and
made again where it is corrupt and its source is at hand.
"""

from __future__ import annotations

import re
import sys

from diffgeo.commands.data.list import named, size_of
from diffgeo.errors import DiffgeoError


def main(line: list[str]) -> None:
    if {"-h", "--help"} & set(line) or not line:
        print(__doc__.strip())
        return
    from diffgeo.data import prepared

    source, root, download = named(line, ("root", "size", "crop", "path", "file", "download"))
    if not hasattr(source, "prepare"):
        arrays = source.open(root, download).split("train")
        print(f"data: {source.name} needs no preparing: {len(arrays.images)} images to train on")
        return
    folder = source.folder(root)
    if not hasattr(source, "size") and any(
        word.partition("=")[0].removeprefix("data.") == "size" for word in line
    ):
        print(
            f"data: {source.name} is prepared at its own size; data.size= resizes it when it is "
            "read"
        )
    try:
        opened = source.open(root, download)
        entries = dict(prepared.check(folder, opened.manifest))
    except DiffgeoError as error:
        if error.status == 2:
            raise
        print(f"data: {error}", file=sys.stderr)
        try:
            entries = source.prepare(root, download)["arrays"]
        except DiffgeoError as absent:  # what is wrong, and what would mend it
            raise DiffgeoError(
                f"{re.split('[:;] prepare the set again', str(error))[0]}, and it cannot be made "
                f"again: {absent}"
            ) from None
    for name, entry in entries.items():
        print(
            f"  {name:<13} {entry['dtype']} {'x'.join(map(str, entry['shape']))}  sha256 "
            f"{entry['sha256'][:16]}..."
        )
    held = sum(file.stat().st_size for file in folder.glob("*.npy"))
    print(f"data: {source.name} is prepared in {folder}, {size_of(held)}")
