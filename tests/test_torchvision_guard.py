"""torchvision imports after diffgeo whether or not its compiled operators load; what needs no
operator works."""

import subprocess
import sys

import pytest

from diffgeo.machine import torchvision_guard

IMPORTS = """
import sys, diffgeo
assert not {"torch", "torchvision"} & set(sys.modules), "importing diffgeo must import neither"
from diffgeo.machine import torchvision_guard as guard
loads, asked = guard.loads, []
guard.loads = lambda: asked.append(1) or FORCED(loads)
import torch
from torchvision.utils import make_grid
from torchvision.transforms import v2
assert len(asked) == 1 and guard.Finder not in sys.meta_path
grid = make_grid(torch.arange(8.0).view(2, 1, 2, 2), nrow=2, padding=0)
assert grid[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
assert v2.functional.horizontal_flip(torch.tensor([[[1, 2]]])).tolist() == [[[2, 1]]]
stands_in = not hasattr(sys.modules[guard.REGISTRATIONS], "meta_nms")
print("stands in" if stands_in else "native")
"""


def run(forced: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS.replace("FORCED(loads)", forced)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_imports_where_the_operators_do_not_load_and_where_they_do():
    assert run("loads()") == ("native" if torchvision_guard.loads() else "stands in")
    assert run("False") == "stands in"


def test_a_library_that_is_no_library_does_not_load(tmp_path, monkeypatch):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert torchvision_guard.loads()  # no library: nothing to guard against
    (package / "_C.so").write_bytes(b"not a library")
    assert not torchvision_guard.loads()


@pytest.mark.parametrize("times", [1, 2])
def test_installed_once(times, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [])
    monkeypatch.setattr(
        sys, "modules", {k: v for k, v in sys.modules.items() if k != "torchvision"}
    )
    for _ in range(times):
        torchvision_guard.install()
    assert sys.meta_path == [torchvision_guard.Finder]
