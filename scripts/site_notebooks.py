"""The notebooks of examples/notebooks as pages of the site: their words, their code, and what they
have stored of outputs, text and PNG. tests/test_notebooks.py executes every cell."""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path("examples") / "notebooks"


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
            parts.append(source)
        elif cell["cell_type"] == "code" and source:
            parts.append(f"```python\n{source}\n```")
            parts += [shown(output) for output in cell.get("outputs", [])]
        if number == 0:
            parts.append(f"*The notebook is `{FOLDER.as_posix()}/{path.name}`.*")
    return "\n\n".join(part for part in parts if part) + "\n"


def shown(output: dict) -> str:
    """One output of a cell in Markdown; "" where it is neither text nor a PNG."""
    data = output.get("data", {})
    if "image/png" in data:
        encoded = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="what the cell draws" src="data:image/png;base64,{encoded}">'
    text = "".join(output.get("text", data.get("text/plain", ""))).rstrip()
    return f"```text\n{text}\n```" if text else ""
