"""Small Stable Diffusion folders for tests, made by scripts/latent_folder.py."""

import importlib.util
import json
import shutil
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "latent_folder.py"


def script():
    """scripts/latent_folder.py as a module."""
    spec = importlib.util.spec_from_file_location("latent_folder", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make(folder, family="sd") -> Path:
    return script().make(folder, family)


def changed(folder, copy, file, *gone, **keys) -> Path:
    """A copy of a folder in whose JSON `file` these keys have other values, and some are gone."""
    shutil.copytree(folder, copy)
    edit(copy / file, *gone, **keys)
    return copy


def edit(path, *gone, **keys) -> None:
    config = json.loads(path.read_text(encoding="utf-8")) | keys
    for key in gone:
        del config[key]
    path.write_text(json.dumps(config), encoding="utf-8")
