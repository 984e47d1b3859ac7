"""`diffgeo data prepare`: download or find a set of images, once

    diffgeo data prepare NAME [data.root=ROOT] [data.size=64] [data.crop=ddim|140] \\
        [data.path=FOLDER] [data.background=white|black|[r,g,b]|drop] [data.column=image] \\
        [data.label=label] [data.download=false]

    diffgeo data prepare mnist
    diffgeo data prepare cifar10 data.root=ROOT data.download=false
    diffgeo data prepare folder data.path=FOLDER data.size=64

Put a set of images into the prepared layout under ROOT ($DIFFGEO_DATA, else ~/.cache/diffgeo/data):
from what lies there, from a folder, or through torchvision. A set that is prepared is checked, and
made again where it is corrupt and its source is at hand.
"""

from __future__ import annotations

import re
import sys

from diffgeo.config.catalogue import commands
from diffgeo.errors import DiffgeoError

PICTURES = ("size", "crop", "path", "background", "file", "labels", "column", "label")
TAKES = ("root", *PICTURES, "download")


def main(line: list[str]) -> None:
    if not line:
        print(commands()["data prepare"].help)
        return
    from diffgeo.commands.data.asked import named, shown, size_of
    from diffgeo.data import prepared
    from diffgeo.data.sets import OPTIONS
    from diffgeo.data.sources import Prepared
    from diffgeo.store.files import tidy

    source, root, download = named("data prepare", line, TAKES)
    if not isinstance(source, Prepared):
        arrays = source.open(root, download).split("train")
        print(f"data: {source.name} needs no preparing: {len(arrays.images)} images to train on")
        return
    folder = source.folder(root)
    sized = any(word.removeprefix("data.").startswith("size=") for word in line)
    if sized and "size" not in OPTIONS.get(source.name, ()):
        print(
            f"data: {source.name} is prepared at its own size; data.size= resizes it when it is "
            "read"
        )
    there = prepared.unpacked(folder) or (folder / "manifest.json").is_file()
    try:
        opened = source.open(root, download)
        entries = dict(prepared.check(folder, opened.manifest))
    except DiffgeoError as error:
        if error.status == 2 or not there:
            raise
        print(f"data: {error}", file=sys.stderr)
        try:
            entries = source.prepare(root, download)["arrays"]
        except DiffgeoError as absent:  # what is wrong, and what would mend it
            wrong = re.split("[:;] prepare the set again", str(error))[0]
            raise DiffgeoError(f"{wrong}, and it cannot be made again: {absent}") from None
    tidy(folder)
    for name, entry in entries.items():
        print(shown(name, entry))
    held = sum(file.stat().st_size for file in folder.glob("*.npy"))
    print(f"data: {source.name} is prepared in {folder}, {size_of(held)}")
