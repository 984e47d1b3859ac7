"""`diffgeo data check NAME [data.root=ROOT] [data.size=64] [data.crop=ddim|140] [data.path=FOLDER]
[data.file=FILE]`

Read every byte of a prepared set and compare the shape, dtype and sha256 of each array with the
manifest. Exit status 1 and one line at the first that differs. Nothing is prepared or downloaded.
"""

from __future__ import annotations

from diffgeo.commands.data.list import named
from diffgeo.errors import UsageError


def main(line: list[str]) -> None:
    if {"-h", "--help"} & set(line) or not line:
        print(__doc__.strip())
        return
    from diffgeo.data import prepared

    source, root, _ = named(line, ("root", "size", "crop", "path", "file"))
    if hasattr(source, "prepare"):
        folder = source.folder(root)
        manifest = prepared.manifest_of(folder)
        if manifest is None:
            unpacked = prepared.unpacked(folder)
            raise UsageError(
                f"{folder} "
                + ("has no manifest to check against" if unpacked else "is not there")
                + f": write `diffgeo data prepare {source.name} data.root={root}` first, or data.root=ROOT where the set is"
            )
        entries = prepared.check(folder, manifest)
    else:
        opened = source.open(root, False)
        arrays = zip(prepared.PARTS, opened.split("train"), strict=True)
        entries = ((name, prepared.entry(array)) for name, array in arrays if array is not None)
    for name, entry in entries:
        print(
            f"  {name:<13} {entry['dtype']} {'x'.join(map(str, entry['shape']))}  sha256 "
            f"{entry['sha256'][:16]}... right",
            flush=True,
        )
    print(
        f"data: {source.name} is as its manifest says"
        if hasattr(source, "prepare")
        else f"data: {source.name} can be read"
    )
