"""The plugin door: examples/plugin built, installed and run; who may come in, and what is said to
those that may not; what a folder that was made with a plugin asks for."""

import hashlib
import json
import math
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from here import run_here
from omegaconf import OmegaConf
from safetensors.torch import load_file

from diffgeo.config import offers, plugins
from diffgeo.config.build import build
from diffgeo.config.mistakes import groups_of, message
from diffgeo.config.plugins import made_with
from diffgeo.config.plugins.package import Beside, conf_dir
from diffgeo.core import Run, generator
from diffgeo.data import Mixture
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.metrics.base import Measure
from diffgeo.metrics.floor import reference
from diffgeo.metrics.suite import Suite
from diffgeo.run import Job, RunFolder
from diffgeo.sampler import steps
from diffgeo.sampler.base import Method
from diffgeo.store import digest
from diffgeo.store.lock import job
from diffgeo.theory import orders

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "plugin"


def forget(name):
    """Let a package be imported anew."""
    for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        del sys.modules[module]


@pytest.fixture(autouse=True)
def nobody_stays():
    yield
    plugins.readmit(())


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which the wheel of examples/plugin is installed, on the path of imports."""
    build_wheel = pytest.importorskip("hatchling.build").build_wheel
    place = tmp_path_factory.mktemp("installed")
    source = place / "source"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(source)
        wheel = build_wheel(str(place))
        with zipfile.ZipFile(place / wheel) as archive:
            archive.extractall(place / "site")  # a wheel of Python alone is its files
        patch.syspath_prepend(place / "site")
        yield place / "site"
    forget("garden")


@pytest.fixture(scope="module")
def sampled(installed, tmp_path_factory):
    """A folder with a run in run/, made by what is installed: no plugins= on its line."""
    folder = tmp_path_factory.mktemp("sampled")
    line = "sample model=exact data=flower sampler=ralston sampler.steps=8 n=500 metrics=petals"
    line += " metrics.pairs=2 figures=[petals] hydra.run.dir=run"
    assert run_here(folder, line.split()) == 0
    return folder


def package(folder, name, **files):
    """A package with these files, written as conf__data__rose_yaml=TEXT."""
    root = folder / name
    for place, text in {"__init___py": ""}.items() | files.items():
        stem, _, suffix = place.rpartition("_")
        path = root / f"{stem.replace('__', '/') if stem != '__init__' else stem}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def law_of(module):
    """The config of a law that a module has."""
    return f"_target_: diffgeo.data.make\nlaw: {{_target_: {module}, _partial_: true}}\n"


# the example


def test_the_example_runs_as_ours_do(sampled, installed):
    run = sampled / "run"
    samples = np.load(run / "samples.npy")
    angle = np.arctan2(samples[:, 1], samples[:, 0])
    middles = 2 * math.pi * np.arange(5) / 5
    near = np.cos(angle[:, None] - middles).argmax(1)  # the petal at the least angle
    shares = np.bincount(near, minlength=5) / len(samples)
    values = json.loads((run / "metrics.json").read_text())
    assert values["petals/variation"] == pytest.approx(np.abs(shares - 0.2).sum() / 2, abs=1e-7)
    assert values["petals/variation"] < 0.1  # 500 fair draws: mean .036, deviation .014
    assert values["sampling/nfe"] == 16
    assert (run / "figures" / "petals.png").stat().st_size > 5000


def test_its_provenance_names_it(sampled, installed):
    found = json.loads((sampled / "run" / "provenance.json").read_text())["plugins"]
    lines = hashlib.sha256()
    for path in sorted((installed / "garden").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            own = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.update(f"{path.relative_to(installed / 'garden').as_posix()} {own}\n".encode())
    assert found == {"garden": {"version": "1.0", "digest": lines.hexdigest()}}
    assert OmegaConf.load(sampled / "run" / "config.yaml").plugins == ["garden"]


def test_its_law_is_the_mixture_that_it_says(installed):
    from garden.flower import Flower

    flower = Flower(3, radius=2.0, length=0.5, width=0.1)
    turn = 2 * math.pi / 3
    means = [[2 * math.cos(k * turn), 2 * math.sin(k * turn)] for k in range(3)]
    covariances = []
    for k in range(3):
        c, s = math.cos(k * turn), math.sin(k * turn)
        rotation = np.array([[c, -s], [s, c]])
        covariances.append((rotation @ np.diag([0.25, 0.01]) @ rotation.T).tolist())
    by_hand = Mixture(means, covariances)
    x = torch.randn(20, 2, generator=generator(0), dtype=torch.float64)
    for sigma in (0.01, 0.3, 5.0):
        told = flower.denoiser()(x, sigma)
        assert torch.allclose(told, by_hand.denoiser()(x, sigma), rtol=0, atol=1e-12)
    drawn = flower.sample(20_000, generator(1))
    assert flower.shares(drawn).tolist() == pytest.approx([1 / 3] * 3, abs=4 * 0.0034)


def test_its_order_is_measured(installed, inside, monkeypatch):
    # of the three flows one, which takes a second less
    monkeypatch.setattr(orders, "FLOWS", {"circle, Karras": orders.FLOWS["circle, Karras"]})
    told = inside("theory", "orders", "ralston")
    assert told.returncode == 0, told.stderr
    cells = [cell.strip() for cell in told.stdout.splitlines()[2].strip("|").split("|")]
    assert cells[:3] == ["`ralston`", "2", "2"]
    assert float(cells[3]) == pytest.approx(2, abs=0.06)


def test_a_network_of_its_own_is_trained(installed, tmp_path):
    line = "train net=sine net.width=8 data=flower metrics=none figures=false n=20 logger=jsonl "
    line += "trainer.steps=2 sampler=ralston sampler.steps=3 hydra.run.dir=run"
    assert run_here(tmp_path, line.split()) == 0
    config = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert (config.net._target_, config.net.width) == ("garden.sine.Sine", 8)
    weights = load_file(tmp_path / "run" / "checkpoint" / "model.safetensors")
    assert [weights[f"net.hidden.{k}.weight"].shape for k in (0, 1)] == [(8, 8), (8, 8)]
    from garden.sine import Sine

    torch.manual_seed(0)
    net = Sine((2,), 8, 1)
    x = torch.randn(5, 2)
    noise = torch.randn(5)
    seen = torch.cat([3 * x, noise[:, None]], 1)
    h = (seen @ net.first.weight.T + net.first.bias).sin()
    h = h + (h @ net.hidden[0].weight.T + net.hidden[0].bias).sin()
    by_hand = h @ net.last.weight.T + net.last.bias
    assert torch.allclose(net(x, noise), by_hand, atol=1e-6)


def test_its_names_stand_in_every_list(installed):
    assert "ralston" not in plugins.choices("sampler")
    plugins.admit()
    assert {"ralston", "heun"} <= set(plugins.choices("sampler"))
    assert "flower" in groups_of(*plugins.conf_folders())["data"]
    from diffgeo.report import figures

    assert {"petals", "samples"} <= set(figures.names())
    assert figures.chosen(["petals"]) == ["petals"]


def test_the_tour_shows_its_files():
    """docs/extending.md shows every file of examples/plugin as it is."""
    page = (EXAMPLE.parents[1] / "docs" / "extending.md").read_text()
    files = [path for path in EXAMPLE.rglob("*") if path.suffix in (".py", ".yaml", ".toml")]
    shown = [path for path in files if path.name != "__init__.py"]
    assert len(shown) == 10
    for path in shown:
        name = path.relative_to(EXAMPLE).as_posix()
        assert f"\n# {name}\n{path.read_text().rstrip()}\n```\n" in page, name


# who may come in

MISTAKES = [
    ({}, "nowhere", "there is no package nowhere"),
    ({}, "diffgeo", "that is this program"),
    ({}, "json", "adds nothing"),
    ({"bare": {"conf__data__x_yaml": "a: 1"}}, "bare", "without __init__.py"),
    ({"empty": {}}, "empty", "adds nothing"),
    ({"again": {"conf__data__curve_yaml": "a: 1"}}, "again", "data/curve, a name that diffgeo has"),
    ({"fig": {"figures__samples_py": ""}}, "fig", "figures/samples, a name that diffgeo has"),
    ({"torn": {"conf__data__torn_yaml": "a: [1\nb: 2"}}, "torn", "cannot be read.*torn.yaml: line"),
    ({"list": {"conf__data__list_yaml": "- 1"}}, "list", "a config that is none"),
    ({"say": {"conf__hydra__x_yaml": "a: 1"}}, "say", "no say over Hydra"),
    (
        {"one": {"conf__data__x_yaml": "a: 1"}, "two": {"conf__data__x_yaml": "a: 1"}},
        "one,two",
        "two has data/x, a name that the plugin one has",
    ),
]


@pytest.mark.parametrize("packages, names, said", MISTAKES, ids=[m[1] for m in MISTAKES])
def test_who_is_refused(packages, names, said, tmp_path, monkeypatch):
    for name, files in packages.items():
        package(tmp_path, name, **files)
        if name == "bare":
            (tmp_path / name / "__init__.py").unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        plugins.admit(names.split(","))
    assert plugins.admitted() == ()


def test_a_module_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "alone.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="alone.py is a module: a plugin is a package"):
        plugins.admit(["alone"])


def test_how_a_line_names_them():
    for word in ("plugins=[b,a]", "plugins=b,a", "+plugins=[b, a]", "plugins='[a,b]'"):
        assert plugins.typed(["n=1", word]) == (["a", "b"], ["n=1"])
    assert plugins.typed(["plugins=[]", "plugins_x=1"]) == ([], ["plugins_x=1"])
    for line in (
        ["plugins="],
        ["plugins"],
        ["~plugins=[a]"],
        ["plugins=[a.b]"],
        ["plugins=[../a]"],
    ):
        with pytest.raises(UsageError, match="plugins"):
            plugins.typed(line)
    with pytest.raises(UsageError, match="stands 2 times"):
        plugins.typed(["plugins=[a]", "plugins=[b]"])


def test_the_working_directory_is_no_place_to_import_from(tmp_path, monkeypatch):
    """A package that the line names is found there; what lies beside it is not."""
    package(tmp_path, "roses", conf__data__rose_yaml=law_of("roses.x"))
    (tmp_path / "thorns.py").write_text("raise SystemExit('a stranger ran')")
    monkeypatch.chdir(tmp_path)
    plugins.admit(["roses"])
    finder = next(f for f in sys.meta_path if isinstance(f, Beside))
    assert finder.find_spec("roses").origin == str(tmp_path / "roses" / "__init__.py")
    assert finder.find_spec("thorns") is None


def test_of_two_of_one_name_it_says_which(tmp_path, monkeypatch, capsys):
    for place in ("site", "here"):
        package(tmp_path / place, "twofold", conf__data__twofold_yaml="a: 1")
    monkeypatch.chdir(tmp_path / "here")
    plugins.admit(["twofold"])
    assert capsys.readouterr().err == ""
    monkeypatch.syspath_prepend(tmp_path / "site")
    (plugin,) = (p for p in plugins.admit(["twofold"]) if p.name == "twofold")
    assert plugin.package == tmp_path / "site" / "twofold"
    assert "which Python finds before" in capsys.readouterr().err


# what is built of it

PARTS = """
import torch
from fractions import Fraction
from shutil import rmtree
from diffgeo.sampler.base import Method

class Half:
    order = 2

class Whole(Method):
    order = 1
    def step(self, denoise, x, sigma, sigma_next, history, noise): ...

class _Hidden(Whole): ...

def made() -> Whole: return Whole()

def untold(): return Whole()

def cleaned(path: str) -> None: ...

class Ones:
    shape = (3,)
    def sample(self, n, generator):
        return torch.ones(n, 3)

class Nothing:
    shape = (3,)
"""
BUILT = [
    ("sampler", "Whole", None),
    ("sampler", "made", None),
    ("sampler", "Half", "no sampler .it has no adaptive, .*step, .*: derive it from .*base.Method"),
    ("sampler", "_Hidden", "is not offered here"),
    ("sampler", "rmtree", "is no offer of the plugin"),
    ("sampler", "Fraction", "is no offer of the plugin"),
    ("sampler", "untold", "is no offer of the plugin"),
    ("sampler", "cleaned", "is no offer of the plugin"),
    ("sampler", "Nowhere", "there is no such class or function"),
    ("net", "Whole", "makes no network"),
    ("data", "Nothing", r"makes no data .*sample.*: derive it from diffgeo\.data\.Law"),
]


@pytest.mark.parametrize("slot, name, said", BUILT, ids=[f"{b[0]}_{b[1]}" for b in BUILT])
def test_what_a_plugin_may_build(slot, name, said, tmp_path, monkeypatch):
    package(tmp_path, "workshop", parts_py=PARTS, conf__data__w_yaml="a: 1")
    monkeypatch.chdir(tmp_path)
    forget("workshop")
    plugins.admit(["workshop"])
    node = {"_target_": f"workshop.parts.{name}"} | ({"_partial_": True} if slot == "net" else {})
    config = OmegaConf.create({slot: node})
    if said is None:
        assert type(build(config[slot])).__name__ == "Whole"
        return
    with pytest.raises(UsageError, match=said):
        build(config[slot])


def test_a_law_that_only_draws_is_one(tmp_path, monkeypatch):
    package(tmp_path, "drawing", parts_py=PARTS, conf__data__w_yaml="a: 1")
    monkeypatch.chdir(tmp_path)
    forget("drawing")
    plugins.admit(["drawing"])
    law = build(OmegaConf.create({"data": {"_target_": "drawing.parts.Ones"}}).data)
    assert type(law.draws).__name__ == law.name == "Ones"
    assert law.mean.tolist() == [1, 1, 1] and law.std == 0


@dataclass(frozen=True)
class Bare(Method):
    """A sampler that hands back the state alone."""

    order = 1

    def step(self, denoise, x, sigma, sigma_next, history, noise):
        return x


@dataclass(frozen=True)
class Unnamed(Measure):
    """A metric that hands back a number alone."""

    def __call__(self, run, data):
        return 1.0


def test_what_a_sampler_and_a_metric_hand_back_is_named():
    law = Mixture(torch.zeros(1, 2), torch.eye(2)[None])
    x = torch.ones(4, 2, dtype=torch.float64)
    with pytest.raises(DiffgeoError, match=r"Bare.step returns a Tensor: return Step\(x, "):
        list(steps(Bare(), law.denoiser(), x, torch.tensor([1.0, 0.0]), None))
    with pytest.raises(DiffgeoError, match=r"metrics.mine returns a float: .* by name"):
        Suite({"mine": Unnamed()})(Run(x), law)


def test_unnamed_it_is_refused_and_the_door_is_named(tmp_path, monkeypatch):
    package(tmp_path, "unnamed", parts_py="raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    config = OmegaConf.create({"sampler": {"_target_": "unnamed.parts.Whole"}})
    with pytest.raises(UsageError, match=r"not offered here.*write plugins=\[unnamed\] beside it"):
        offers.check(config)


BROKEN = [
    ("raise RuntimeError('no wax')", "RuntimeError: no wax .*parts.py, line 1"),
    ("import no_such_library", "No module named 'no_such_library' .*parts.py, line 1"),
    ("def f(:", "SyntaxError: .*parts.py, line 1"),
]


@pytest.mark.parametrize("text, said", BROKEN, ids=["raises", "lacks", "syntax"])
def test_one_that_cannot_be_imported_says_whose_fault_it_is(text, said, tmp_path, monkeypatch):
    package(tmp_path, "brittle", parts_py=text, figures__brittle_py=text)
    monkeypatch.chdir(tmp_path)
    forget("brittle")
    plugins.admit(["brittle"])
    config = OmegaConf.create({"sampler": {"_target_": "brittle.parts.Whole"}})
    with pytest.raises(UsageError, match=f"the plugin brittle cannot be imported: .*{said}"):
        build(config.sampler)
    with pytest.raises(UsageError, match="figures=brittle: the plugin brittle cannot be imported"):
        plugins.figure(plugins.owner("brittle"), "brittle")


def test_a_figure_has_both_of_its_functions(tmp_path, monkeypatch):
    package(tmp_path, "halves", figures__halves_py="def shows(view): return True")
    monkeypatch.chdir(tmp_path)
    plugins.admit(["halves"])
    with pytest.raises(UsageError, match=r"figures=halves of the plugin halves has no draw\(\)"):
        plugins.figure(plugins.owner("halves"), "halves")


def test_an_error_in_its_code_says_where(tmp_path, monkeypatch):
    package(tmp_path, "slips", parts_py="def slip(): return 1 / 0", conf__data__s_yaml="a: 1")
    monkeypatch.chdir(tmp_path)
    plugins.admit(["slips"])
    from slips.parts import slip

    try:
        slip()
    except ZeroDivisionError as error:
        text, status = message(error)
    assert (status, text.endswith("slips/parts.py, line 1)")) == (1, True), text
    assert "in the plugin slips" in text


# what was made with it


def test_a_folder_asks_for_its_plugin_by_name(sampled, monkeypatch, capfd):
    """Not installed, the run is refused; named on the line, it is replayed."""
    monkeypatch.setattr(plugins, "installed", lambda: [])
    for line in ("sample run=run", "evaluate run=run", "trajectory run=run"):
        assert run_here(sampled, [*line.split(), "hydra.run.dir=refused"]) == 2
        told = capfd.readouterr().err.strip()
        assert told.endswith(
            "run was made with the plugin garden: write plugins=[garden] beside it, if you trust "
            "that package"
        )
    assert not (sampled / "refused").exists()
    line = "sample run=run n=500 metrics=none figures=false plugins=[garden] hydra.run.dir=named"
    assert run_here(sampled, line.split()) == 0
    same = [(sampled / name / "samples.npy").read_bytes() for name in ("run", "named")]
    assert same[0] == same[1]


def test_a_folder_admits_nobody(tmp_path, inside):
    """Its config names a package that lies where the command is typed, and may not run."""
    package(tmp_path, "evil", law_py="open('ran', 'w')", conf__data__evil_yaml=law_of("evil.law.L"))
    (tmp_path / "run").mkdir()
    config = "# diffgeo 0.1.0\nseed: 0\ndata: {_target_: evil.law.L}\n"
    (tmp_path / "run" / "overrides.yaml").write_text("- data=evil\n- plugins=[evil]\n")
    for header in ("", "plugins: [evil]\n", "'plugins': ['evil']\n", "plugins:\n- evil\n"):
        (tmp_path / "run" / "config.yaml").write_text(config + header)
        told = inside("sample", "run=run")
        assert told.returncode == 2
        assert "plugins=[evil]" in told.line
    assert not (tmp_path / "ran").exists()


def test_a_config_directory_admits_nobody(tmp_path, inside):
    package(tmp_path, "evil2", conf__data__evil2_yaml=law_of("evil2.law.L"))
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    text = "# @package _global_\nplugins: [evil2]\n"
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(text)
    told = inside("sample", "--config-dir", "own", "experiment=mine", "n=5")
    assert (told.returncode, told.line.startswith("diffgeo: plugins=evil2 stands in a config")) == (
        2,
        True,
    )


def test_names_that_are_none_are_damage(tmp_path):
    for names in ("garden", [1], ["../x"], {"a": 1}):
        with pytest.raises(DiffgeoError, match="no names of packages"):
            made_with.check_made_with(tmp_path, names)


def test_a_finished_run_whose_plugin_changed_is_refused(tmp_path, monkeypatch, capfd):
    source = package(tmp_path, "pair", conf__data__pair_yaml="a: 1")
    monkeypatch.chdir(tmp_path)
    plugins.admit(["pair"])
    config = OmegaConf.create({"seed": 0})

    def folder():
        return RunFolder.of("sample", config, Job(tmp_path / "run", ("plugins=[pair]",)))

    with job():
        assert not folder().begin()
        folder().finish({})
        assert folder().begin()  # finished, and the same
        (source / "law.py").write_text("a = 1")
        with pytest.raises(UsageError, match="is finished, and the plugin pair has changed since"):
            folder().begin()
        (tmp_path / "run" / "metrics.json").unlink()  # not finished: taken up, and said
        assert not folder().begin()
    assert "note: the plugin pair has changed since this run began" in capfd.readouterr().err
    assert made_with.changed_since(tmp_path / "run" / "config.yaml", folder().plugins) == []


def test_what_is_kept_of_a_law_knows_its_code(tmp_path, monkeypatch):
    """A floor of a plugin's law is computed anew when the plugin changes, its options the same."""
    points = "from diffgeo.data import Points\nclass Two(Points):\n"
    points += "    def __init__(self): super().__init__([[0.0, 1.0], [1.0, 0.0]])\n"
    points += "    def parameters(self): return []\n"
    package(tmp_path, "twins", law_py=points)
    (tmp_path / "twins" / "law.py").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    metric = build(
        OmegaConf.create({"metrics": {"a": {"_target_": "diffgeo.metrics.Atoms"}}}).metrics.a
    )
    found = []
    for text in (points, points.replace("[1.0, 0.0]", "[1.0, 0.0], [3.0, 3.0]")):
        (tmp_path / "twins" / "law.py").write_text(text)
        forget("twins")
        from twins.law import Two

        found.append((Two().key, set(reference(metric, Two(), 50, 2))))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]
    assert digest.of_code(Mixture) == digest.of_code(torch.nn.Linear) == ""


@pytest.mark.slow
def test_a_sweep_on_several_processes_has_it(tmp_path, inside):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    shutil.copytree(EXAMPLE / "garden", tmp_path / "garden")
    forget("garden")
    told = inside(
        *"sample -m hydra/launcher=joblib hydra.launcher.n_jobs=2 plugins=[garden]".split(),
        *"model=exact data=flower sampler=ralston,heun sampler.steps=5 n=20 metrics=none".split(),
    )
    assert told.returncode == 0, told.stderr
    (table,) = tmp_path.rglob("compare.csv")
    assert [line.split(",")[0] for line in table.read_text().splitlines()[1:]] == [
        "ralston",
        "heun",
    ]


@pytest.mark.slow
def test_pip_installs_it(tmp_path, diffgeo):
    """As a user would: pip, and the program in a new process."""
    import subprocess

    site = tmp_path / "site"
    source = tmp_path / "source"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True)
    root = str(EXAMPLE.parents[1])
    told = diffgeo(
        *"sample model=exact data=flower sampler=ralston n=50 metrics=petals figures=true".split(),
        PYTHONPATH=f"{root}:{site}",
    )
    assert told.returncode == 0, told.stderr
    assert "petals/variation" in told.stdout


def test_the_conf_folder_of_ours_comes_first():
    assert plugins.conf_folders() == (conf_dir(),)
