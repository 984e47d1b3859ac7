"""The notebooks of examples/notebooks as pages of the site: their words, their code, and what they
have stored of outputs, text and PNG. tests/test_notebooks.py executes every cell.

A notebook shows formulas in TeX. The site loads nothing from elsewhere, and no page but these needs
TeX, so the few signs that the formulas are made of are written out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

FOLDER = Path("examples") / "notebooks"
FORMULA = re.compile(r"\$([^$\n]+)\$")
SIGNS = {
    r"\sigma": "σ",
    r"\epsilon": "ε",
    r"\mid": "|",
    r"\cos": " cos ",
    r"\sin": " sin ",
    r"\log": "log",
    r"\text": "",
    r"\,": " ",
    "^2": "²",
    "_0": "₀",
    "{": "",
    "}": "",
}


def found(root: Path) -> list[Path]:
    return sorted((root / FOLDER).glob("*.ipynb"))


def navigation(root: Path) -> list[dict[str, str]]:
    """The entries of the navigation: the first heading of each, and its page."""
    entries = []
    for path in found(root):
        entries.append({title(path): f"notebooks/{path.stem}.md"})
    return entries


def pages(root: Path) -> dict[str, str]:
    """The text of each page by its place."""
    return {f"notebooks/{path.stem}.md": as_markdown(path) for path in found(root)}


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def title(path: Path) -> str:
    """The first heading of a notebook, or its name."""
    for cell in cells(path):
        for line in "".join(cell["source"]).splitlines():
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line[2:].strip()
    return path.stem.replace("_", " ")


def as_markdown(path: Path) -> str:
    """A notebook as one page: its code in fences, below each what it has stored of outputs."""
    parts = []
    for number, cell in enumerate(cells(path)):
        source = "".join(cell["source"]).rstrip()
        if cell["cell_type"] == "markdown":
            parts.append(FORMULA.sub(written_out, source))
        elif cell["cell_type"] == "code" and source:
            parts.append(f"```python\n{source}\n```")
            parts += [shown(output) for output in cell.get("outputs", [])]
        if number == 0:
            parts.append(f"*The notebook is `{FOLDER.as_posix()}/{path.name}`.*")
    return "\n\n".join(part for part in parts if part) + "\n"


def written_out(formula: re.Match) -> str:
    """A formula in plain signs. Raises ValueError on one that has others than SIGNS."""
    text = formula[1]
    for sign, plain in SIGNS.items():
        text = text.replace(sign, plain)
    if "\\" in text or "^" in text:
        raise ValueError(f"scripts/site_notebooks.py cannot write out {formula[0]}: add its signs")
    words = re.sub(r"([*_\[\]|<])", r"\\\1", " ".join(text.split()))
    return f"*{words}*"


def shown(output: dict) -> str:
    """One output of a cell in Markdown; "" where it is neither text nor a PNG."""
    data = output.get("data", {})
    if "image/png" in data:
        encoded = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="what the cell draws" src="data:image/png;base64,{encoded}">'
    text = "".join(output.get("text", data.get("text/plain", ""))).rstrip()
    return f"```text\n{text}\n```" if text else ""
