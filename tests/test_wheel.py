"""The wheel: what is in it, what is not, and that it works away from the checkout."""

import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from pages import ROOT

import diffgeo

pytest.importorskip("hatchling", reason="the wheel is built with pip install 'diffgeo[dev]'")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    from hatchling.build import build_wheel

    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = build_wheel(str(folder))
    return zipfile.ZipFile(folder / name)


def below(folder: str, pattern: str) -> set[str]:
    found = (ROOT / folder).rglob(pattern)
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


def test_it_holds_the_package_and_its_configs_and_nothing_else(wheel):
    names = set(wheel.namelist())
    configs = {f"diffgeo/{name}" for name in below("conf", "*.yaml")}
    assets = below("diffgeo/assets", "*.*")
    described = {name for name in names if name.startswith(f"diffgeo-{diffgeo.__version__}")}
    expected = below("diffgeo", "*.py") | configs | assets | {"diffgeo/py.typed"}
    rest = names - described - expected
    # what a page or a figure of ours carries beside its Python
    assert {name for name in rest if not name.endswith((".css", ".js", ".html"))} == set()
    assert expected <= names and len(configs) > 300


def test_its_metadata(wheel):
    folder = f"diffgeo-{diffgeo.__version__}.dist-info"
    metadata = message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Author"] == "The diffgeo developers"
    assert {"Homepage", "Repository"} <= {
        url.partition(",")[0] for url in metadata.get_all("Project-URL")
    }
    assert b"MIT License" in wheel.read(f"{folder}/licenses/LICENSE")
    assert b"diffgeo = diffgeo.cli:main" in wheel.read(f"{folder}/entry_points.txt")
    # no extra of ours is needed by the base install
    base = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert len(base) == 13


STARTED = """
import sys
from diffgeo.cli import main
from diffgeo.config.line import conf_dir
print(conf_dir(), flush=True)
main()
"""


def run(wheel: zipfile.ZipFile, folder: Path, *words: str) -> subprocess.CompletedProcess:
    """`diffgeo ...` from the unpacked wheel, in an empty folder; first it says where conf/ is."""
    wheel.extractall(folder / "site")
    (folder / "empty").mkdir()
    return subprocess.run(
        [sys.executable, "-c", STARTED, *words],
        cwd=folder / "empty",
        env=os.environ | {"PYTHONPATH": str(folder / "site")},
        capture_output=True,
        text=True,
    )


def test_it_finds_its_configs(wheel, tmp_path):
    """Those inside the package: no checkout lies beside it."""
    done = run(wheel, tmp_path, "train", "model=cem", "data=curve", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    where, config = done.stdout.split("\n", 1)
    assert where == str(tmp_path / "site" / "diffgeo" / "conf")
    assert "_target_: diffgeo.data.make" in config


@pytest.mark.slow
def test_it_trains(wheel, tmp_path):
    line = "train model=cem data=curve trainer.steps=20 n=100 metrics=quick hydra.run.dir=run"
    done = run(wheel, tmp_path, *line.split())
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "empty" / "run" / "metrics.json").is_file()
