"""`diffgeo data check`: a prepared set against the hashes of its manifest

    diffgeo data check NAME [data.root=ROOT] [data.size=64] [data.crop=ddim|140] \\
        [data.path=FOLDER] [data.background=white|black|[r,g,b]|drop] [data.file=FILE] \\
        [data.labels=FILE] [data.column=image] [data.label=label]

    diffgeo data check mnist
    diffgeo data check celeba data.size=32 data.crop=140
    diffgeo data check folder data.path=FOLDER data.size=64

Read every byte of a prepared set and compare the shape, dtype and sha256 of each array with the
manifest. Exit status 1 and one line at the first that differs. Nothing is prepared or downloaded.
"""

from __future__ import annotations

from diffgeo.config.catalogue import commands
from diffgeo.errors import UsageError


def main(line: list[str]) -> None:
    if not line:
        print(commands()["data check"].help)
        return
    from diffgeo.commands.data.asked import named, shown
    from diffgeo.data import prepared
    from diffgeo.data.sources import Prepared

    takes = ("root", "size", "crop", "path", "background", "file", "labels", "column", "label")
    source, root, _ = named("data check", line, takes)
    if isinstance(source, Prepared):
        folder = source.folder(root)
        manifest = prepared.manifest_of(folder)
        if manifest is None:
            unpacked = prepared.unpacked(folder)
            wrong = "has no manifest to check against" if unpacked else "is not there"
            raise UsageError(
                f"{folder} {wrong}: write `diffgeo data prepare {source.name} data.root={root}` "
                "first, or data.root=ROOT where the set is"
            )
        found = "is as its manifest says"
        entries = prepared.check(folder, manifest)
    else:
        found = "can be read"
        arrays = zip(prepared.PARTS, source.open(root, False).split("train"), strict=True)
        entries = ((name, prepared.entry(array)) for name, array in arrays if array is not None)
    for name, entry in entries:
        print(f"{shown(name, entry)} right", flush=True)
    print(f"data: {source.name} {found}")
