"""`diffgeo data list [data.root=ROOT]`: the sets of images that `data=` names, and what is prepared
of them under the root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from diffgeo.errors import UsageError

KINDS: dict[str, Callable[[str], object]] = {
    "root": str,
    "path": str,
    "file": str,
    "size": int,
    "crop": lambda text: int(text) if text.isdigit() else text,
    "download": lambda text: {"true": True, "false": False}[text],
}


def options(line: list[str], takes: tuple[str, ...]) -> dict:
    """`data.size=64 ...` as {"size": 64, ...}. Raises UsageError on a word that is none of `takes`,
    or a value of another kind."""
    found = {}
    for word in line:
        key, equals, value = word.partition("=")
        key = key.removeprefix("data.")
        if not equals or key not in takes:
            raise UsageError(
                f"there is no option {word.partition('=')[0]} here; write "
                f"{', '.join(f'data.{name}=' for name in takes)}"
            )
        try:
            found[key] = KINDS[key](value.strip("'\""))
        except (ValueError, KeyError):
            raise UsageError(
                f"{word}: write data.{key}="
                + ("a whole number" if key == "size" else "true or false")
            ) from None
    return found


def named(line: list[str], takes: tuple[str, ...]):
    """The source that `NAME data.key=value ...` names, and the root. Raises UsageError on a name
    that there is not."""
    from diffgeo.data.prepared import data_root
    from diffgeo.data.sets import SOURCES, source

    name = line[0].removeprefix("data=") if line else ""
    if name not in SOURCES:
        raise UsageError(
            (f"there is no set {name}" if name else "which set?")
            + f"; write one of {', '.join(SOURCES)}"
        )
    given = options(line[1:], takes)
    root = data_root(given.pop("root", None))
    download = given.pop("download", True)
    return source(name, **given), root, download


def size_of(count: int) -> str:
    """Bytes as a person reads them."""
    return (
        f"{count / 1e9:.2f} GB"
        if count >= 1e9
        else f"{count / 1e6:.1f} MB"
        if count >= 1e6
        else f"{count / 1e3:.0f} kB"
    )


def main(line: list[str]) -> None:
    if {"-h", "--help"} & set(line):
        print(__doc__.strip())
        return
    from diffgeo.commands.compare import markdown
    from diffgeo.data.prepared import data_root, manifest_of, unpacked
    from diffgeo.data.sets import SOURCES

    root = data_root(options(line, ("root",)).get("root"))

    def row(name: str) -> list[str]:
        made = SOURCES[name]()
        if name == "digits":
            return [name, made.about, made.licence, "in the package", size_of(1797 * 64)]
        folders = (
            sorted(
                p for p in root.glob(f"{name}*") if p.name == name or p.name.startswith(f"{name}_")
            )
            if root.is_dir()
            else []
        )
        ready = [p for p in folders if unpacked(p)]
        held = sum(file.stat().st_size for p in ready for file in p.glob("*.npy"))
        state = (
            ", ".join(p.name + ("" if manifest_of(p) else " (no manifest yet)") for p in ready)
            or "no"
        )
        return [
            name,
            made.about,
            made.licence,
            "read as it is" if name == "npz" else state,
            size_of(held) if held else "",
        ]

    print(f"root: {Path(root).resolve()}\n")
    print(
        markdown(
            ["data=", "images", "licence", "prepared", "bytes"], [row(name) for name in SOURCES]
        )
    )
