"""`diffgeo data list`: the sets of images, and what is prepared of them: data list [data.root=ROOT]

    diffgeo data list
    diffgeo data list data.root=ROOT        what is prepared in another folder
    diffgeo data list data.root=.           or in this one

The first column is what `data=` names.
"""

from __future__ import annotations

from pathlib import Path

DIGITS = 1797 * 64  # bytes of the set in the package


def main(line: list[str]) -> None:
    from diffgeo.commands.data.asked import root_of
    from diffgeo.data.sets import SOURCES
    from diffgeo.tables import markdown

    root = root_of("data list", line)
    print(f"root: {root.resolve()}\n")
    header = ["data=", "images", "licence", "prepared", "bytes"]
    print(markdown(header, [row(name, root) for name in SOURCES]))


def row(name: str, root: Path) -> list[str]:
    """One set: what it is, its licence, its prepared folders under the root, and their bytes."""
    from diffgeo.commands.data.asked import size_of
    from diffgeo.data.prepared import manifest_of, unpacked
    from diffgeo.data.sets import SOURCES

    made = SOURCES[name]()
    about = [name, made.about, made.licence]
    if name == "digits":
        return [*about, "in the package", size_of(DIGITS)]
    ready = [folder for folder in folders_of(name, root) if unpacked(folder)]
    files = [file for folder in ready for file in folder.glob("*.npy")]
    held = sum(file.stat().st_size for file in files)
    size = size_of(held) if held else ""
    if name in ("npz", "npy_images"):
        return [*about, "read as it is", size]
    names = [
        folder.name + ("" if manifest_of(folder) else " (no manifest yet)") for folder in ready
    ]
    return [*about, ", ".join(names) or "no", size]


def folders_of(name: str, root: Path) -> list[Path]:
    """The folders of a set under the root: NAME, and NAME_ with its options behind it."""
    if not root.is_dir():
        return []
    found = [path for path in root.glob(f"{name}*") if path.name == name]
    return sorted([*found, *root.glob(f"{name}_*")])
