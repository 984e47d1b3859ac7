"""`diffgeo sample model=latent` and what it leaves: pictures that are the decoded samples of the
library's own simulation, their prompts, digests, sheets; killed and taken up again; and what the
other commands and metrics say of pictures without a law."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from configs import composed
from conftest import run_here
from latent_folders import make
from omegaconf import OmegaConf
from PIL import Image

import diffgeo  # noqa: F401  torchvision's guard, before the libraries
from diffgeo.config.build import assemble, build
from diffgeo.config.build import make as make_parts
from diffgeo.core import ImageSet, Known, Pictures
from diffgeo.data import Images
from diffgeo.errors import UsageError
from diffgeo.metrics.frechet import between, moments
from diffgeo.metrics.nets import Pixels
from diffgeo.plot import prompted as sheets
from diffgeo.pretrained.latent import latent
from diffgeo.pretrained.latent.latents import Latents
from diffgeo.sampler import Euler
from diffgeo.schedule.scheduler_config import folder_schedule
from diffgeo.simulation import Simulation
from diffgeo.simulation.initial import InChart
from diffgeo.store import shards
from diffgeo.store.digest import of_file

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

PROMPTS = ("a cat", "a dog", "", "a cat and a dog by the sea")
STEPS = 3


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with sd/, prompts.txt and one run, four pictures in two shards."""
    folder = tmp_path_factory.mktemp("latent_command")
    make(folder / "sd")
    (folder / "prompts.txt").write_text("".join(f"{text}\n" for text in PROMPTS))
    assert run_here(folder, [*LINE, "latents=true", "png=true", "hydra.run.dir=run"]) == 0
    return folder


LINE = (
    "sample model=latent model.folder=sd prompts=prompts.txt guidance=4 sampler=euler "
    f"sampler.steps={STEPS} batch=2"
).split()


def again(place: Path, *options: str) -> int:
    return run_here(place, [*LINE, *options])


def told(place: Path, name: str):
    return json.loads((place / "run" / name).read_text())


@pytest.fixture(scope="module")
def drawn(place) -> tuple[torch.Tensor, torch.Tensor]:
    """The same samples in ten lines of Python: latents, and the pictures they decode to."""
    denoise = latent(place / "sd")
    simulation = Simulation(
        Euler(),
        denoise,
        folder_schedule(str(place / "sd")).grid(STEPS),
        denoise.shape,
        condition=denoise.condition(PROMPTS, guidance=4.0),
        initial=InChart(),
        in_chart=True,  # a sample is z, not x = z sqrt(1 + sigma^2), at the last level
    )
    samples = simulation.draw(range(4), 2).samples
    return samples, denoise.decode(samples)


def test_a_run_holds_the_decoded_samples_of_the_library(place, drawn):
    samples, pictures = drawn
    stored = np.load(place / "run/samples.npy")
    assert stored.shape == (4, 64, 64, 3) and stored.dtype == np.uint8
    assert np.array_equal(stored, pictures.permute(0, 2, 3, 1).numpy())
    latents = np.load(place / "run/latents.npy")
    assert np.array_equal(latents, samples.float().numpy())
    for i in range(4):
        with Image.open(place / f"run/samples/{i:06d}.png") as picture:
            assert np.array_equal(np.asarray(picture), stored[i])
    assert stored.std() > 20  # they are no grey squares


def test_a_run_says_what_made_it(place):
    """Every weight file and the scheduler's keys; two rows a guided call; the prompts."""
    record = told(place, "provenance.json")
    files = sorted((place / "sd").rglob("*.safetensors"))
    names = {file.relative_to(place / "sd").as_posix(): of_file(file) for file in files}
    assert len(names) == 3 and record["weights"] == names
    scheduler = json.loads((place / "sd/scheduler/scheduler_config.json").read_text())
    plain = {key: value for key, value in scheduler.items() if not key.startswith("_")}
    assert record["scheduler"] == {"_class_name": "PNDMScheduler"} | plain
    assert {"model.folder", "prompts"} <= set(record["inputs"])
    assert told(place, "metrics.json") == {"sampling/nfe": 2 * STEPS}
    assert (place / "run/prompts.txt").read_text().split("\n") == [*PROMPTS, ""]


def test_the_figure_has_each_picture_over_its_prompt(place):
    """Enlarged twice; the words are ink below."""
    with Image.open(place / "run/figures/samples.png") as opened:
        sheet = np.asarray(opened)
    stored = np.load(place / "run/samples.npy")
    high = 128 + sheets.LINE + sheets.GAP
    wide = 128 + sheets.GAP
    assert sheet.shape == (sheets.GAP + 2 * high, sheets.GAP + 2 * wide, 3)
    for i in range(4):
        top = sheets.GAP + i // 2 * high
        left = sheets.GAP + i % 2 * wide
        shown = sheet[top : top + 128, left : left + 128]
        assert np.array_equal(shown, stored[i].repeat(2, 0).repeat(2, 1))
        below = sheet[top + 128 : top + 128 + sheets.LINE, left : left + 128]
        assert (below < 128).any()


def test_a_killed_run_goes_on_from_its_shards(place, monkeypatch):
    """The same bytes; what was drawn is not drawn again, unless the prompts have changed."""
    held = (place / "run/samples.npy").read_bytes()
    write = shards.write
    written = []

    def dying(folder, numbers, *others, **more):
        if len(written) == 1:
            raise RuntimeError("killed")
        written.append(numbers)
        write(folder, numbers, *others, **more)

    monkeypatch.setattr(shards, "write", dying)
    options = ["latents=true", "figures=false", "hydra.run.dir=killed"]
    assert again(place, *options) == 1 and written == [range(2)]
    found = []
    monkeypatch.setattr(shards, "write", lambda *all: [found.append(all[1]), write(*all)])
    assert again(place, *options) == 0 and found == [range(2, 4)]
    assert (place / "killed/samples.npy").read_bytes() == held
    assert (place / "killed/latents.npy").read_bytes() == (place / "run/latents.npy").read_bytes()


def test_shards_of_other_prompts_are_not_taken_up(place, monkeypatch, capsys):
    write = shards.write
    (place / "own.txt").write_text("a cat\na dog\na cat\n")

    def once(folder, numbers, *others):
        write(folder, numbers, *others)
        raise RuntimeError("killed")

    options = ["prompts=own.txt", "figures=false", "sampler.steps=1", "hydra.run.dir=other"]
    monkeypatch.setattr(shards, "write", once)
    assert again(place, *options) == 1
    monkeypatch.setattr(shards, "write", write)
    (place / "own.txt").write_text("a dog\na dog\na cat\n")
    capsys.readouterr()
    assert again(place, *options) == 0
    assert "1 of 1 shards" in capsys.readouterr().out


def test_a_sample_belongs_to_its_number(place):
    """Samples 1 and 2 alone are those of the whole run, but for float32's last digit of a byte."""
    assert again(place, "first=1", "n=2", "figures=false", "hydra.run.dir=some") == 0
    some = np.load(place / "some/samples.npy").astype(int)
    whole = np.load(place / "run/samples.npy").astype(int)
    assert np.abs(some - whole[1:3]).max() <= 1 and np.abs(some - whole[0]).max() > 20
    assert (place / "some/prompts.txt").read_text() == "a dog\n\n"


def test_latents_in_the_place_of_pictures(place, drawn):
    """decode=false stores what was drawn; it decodes to the same pictures when one is looked at."""
    assert again(place, "decode=false", "png=true", "hydra.run.dir=raw") == 0
    raw = np.load(place / "raw/samples.npy")
    assert raw.dtype == np.float32 and np.array_equal(raw, drawn[0].float().numpy())
    data = Latents(str(place / "sd"), decode=False)
    assert torch.equal(data.quantize(data.restore(raw)), drawn[1])
    assert isinstance(data, Pictures) and not isinstance(data, Known | ImageSet)
    with Image.open(place / "raw/samples/000003.png") as picture:
        assert np.array_equal(np.asarray(picture), drawn[1][3].permute(1, 2, 0).numpy())
    with pytest.raises(UsageError, match="no law"):
        data.sample(1, torch.Generator())
    for wrong in (raw[:0], raw[:, :2], (255 * raw).astype(np.uint8)):
        with pytest.raises(UsageError, match="decode=false"):
            data.restore(wrong)


def test_a_sweep_lies_side_by_side(place):
    """A row a prompt, a column a sampler."""
    sweep = ["n=2", "sampler=ddim,plms", "sampler.steps=2", "hydra.sweep.dir=sweep", "-m"]
    assert again(place, *sweep) == 0
    with Image.open(place / "sweep/prompts-0.png") as opened:
        sheet = np.asarray(opened)
    wide = 128 + sheets.GAP
    top = 2 * sheets.LINE + sheets.GAP
    assert sheet.shape == (top + 2 * wide, sheets.LEFT + 2 * wide, 3)
    for column, job in enumerate(("0", "1")):
        stored = np.load(place / f"sweep/{job}/samples.npy")
        for row in range(2):
            y = top + row * wide
            x = sheets.LEFT + column * wide
            shown = sheet[y : y + 128, x : x + 128]
            assert np.array_equal(shown, stored[row].repeat(2, 0).repeat(2, 1))
    assert (sheet[:top, : sheets.LEFT] < 128).any()  # what is compared is said


def test_pictures_are_held_against_a_folder(place):
    """FID in pixels, from a run's own samples, against the moments of the cut photographs."""
    random = np.random.default_rng(0)
    (place / "photographs").mkdir()
    cut = []
    for i in range(11):
        photograph = random.integers(0, 256, (64, 64 + 2 * i, 3), dtype=np.uint8)
        Image.fromarray(photograph).save(place / f"photographs/{i:02d}.png")
        cut.append(photograph[:, i : i + 64])
    (place / "many.txt").write_text("a cat\n" * 10)
    options = (
        "prompts=many.txt sampler.steps=1 figures=false metrics=fid metrics.fid.features=pixels "
        "metrics.fid.reference=photographs hydra.run.dir=fid"
    )
    assert again(place, *options.split()) == 0
    value = json.loads((place / "fid/metrics.json").read_text())["frechet/pixels"]
    net = Pixels()
    own = torch.from_numpy(np.load(place / "fid/samples.npy")).permute(0, 3, 1, 2)
    photographs = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2)
    assert value == pytest.approx(between(moments(net(own)), moments(net(photographs))), rel=1e-9)
    facts = json.loads((place / "fid/fid.json").read_text())["fid"]
    assert facts["reference"]["origin"] == "11 pictures of photographs/" and facts["n"] == 10


REFUSED = (
    ("n=5", "holds 4 prompts"),
    ("first=4", "0 to 3"),
    ("label=0", "told prompts"),
    ("guidance=.nan", "guidance=nan"),
    ("guidance_rescale=2", "from 0, no rescaling, to 1"),
    ("loop.clip=1", "loop.clip=1"),
    ("loop.ball=1", "loop.ball="),
    ("loop.threshold=.9", "loop.threshold="),
    ("init=gaussian_at", "no law"),
    ("prompts=null", "prompts=FILE"),
    ("prompts=nowhere.txt", "no such file"),
)
SAMPLERS = (("rk45", "adaptive"), ("a_ddim", "latents have none"))
METRICS = (
    ("default", "have none"),
    ("images", "have none"),
    ("fid", "metrics.fid.reference="),
    ("clip", "metrics.clip.folder="),
)


def config(place, *options):
    """The config of a command that runs in `place`."""
    found = composed("sample", "model=latent", f"model.folder={place}/sd", *options)
    found.prompts = f"{place}/prompts.txt"
    return found


def test_what_a_model_of_latents_cannot_do_is_refused(place):
    """Before anything is drawn: the network is made once, and the config is what differs."""
    parts = make_parts(config(place), torch.device("cpu"))
    for option, message in REFUSED:
        asked = config(place)
        key, _, value = option.partition("=")
        OmegaConf.update(asked, key, yaml.safe_load(value))
        with pytest.raises(UsageError, match=message):
            assemble(asked, lambda *others: parts)
    for name, message in SAMPLERS:
        with pytest.raises(UsageError, match=message):
            assemble(config(place, f"sampler={name}"), lambda *others: parts)
    assert assemble(config(place), lambda *others: parts).numbers == range(4)
    assert assemble(config(place, "first=1"), lambda *others: parts).numbers == range(1, 4)
    for name, message in METRICS:
        metrics = build(config(place, f"metrics={name}").metrics)
        with pytest.raises(UsageError, match=message):
            metrics.prepare(parts[0], 20)


def test_sides_of_a_picture(place):
    """Whole latents; the picture is eight times as large."""
    data = Latents(str(place / "sd"), height=64, width=80)
    assert data.picture == (3, 64, 80) and data.shape == (4, 8, 10)
    for wrong in ({"height": 60}, {"width": 0}, {"height": 2**20}):
        with pytest.raises(UsageError, match="multiple of 8"):
            Latents(str(place / "sd"), **wrong)
    with pytest.raises(UsageError, match="decode_batch=0"):
        Latents(str(place / "sd"), decode_batch=0)


MISTAKES = (
    ("data=circle", "leave data= out"),
    ("n=5", "holds 4 prompts"),
)


def test_a_mistake_is_one_line_and_leaves_nothing(place, capsys):
    for option, message in MISTAKES:
        capsys.readouterr()
        assert again(place, option, "hydra.run.dir=wrong") == 2, option
        (told,) = capsys.readouterr().err.strip().splitlines()
        assert told.startswith("diffgeo: ") and message in told
        assert not (place / "wrong").exists()
    line = "sample model=exact data=circle prompts=prompts.txt hydra.run.dir=wrong"
    assert run_here(place, line.split()) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert "write model=latent" in told and not (place / "wrong").exists()


OTHERS = (
    ("train", "nothing to train"),
    ("theory denoise n=4", "no density in closed form"),
    ("theory gaussian", "leave data= out"),
    ("trajectory start n=4", "no law"),
    ("trajectory distill n=4", "no law"),
    ("trajectory interpolate n=2", "no law"),
    ("restore operator=pool sigma_n=.1", "no law"),
)


@pytest.mark.slow
def test_other_commands_say_what_they_lack(place, capsys):
    for line, message in OTHERS:
        words = f"{line} model=latent model.folder=sd prompts=prompts.txt hydra.run.dir=wrong"
        capsys.readouterr()
        assert run_here(place, words.split()) == 2, line
        (told,) = capsys.readouterr().err.strip().splitlines()
        assert message in told, told
        assert not (place / "wrong").exists(), line


def test_a_run_is_evaluated_and_followed(place):
    """evaluate reads the pictures of a run; trajectory follows latents on their way."""
    line = "evaluate run=run metrics=none figures=false hydra.run.dir=evaluated"
    assert run_here(place, line.split()) == 0
    line = "trajectory model=latent model.folder=sd prompts=prompts.txt n=1 sampler.steps=3"
    assert run_here(place, [*line.split(), "figures=false", "hydra.run.dir=way"]) == 0
    assert (place / "way/metrics.json").exists()


def test_an_image_set_is_its_own_picture():
    law = Images(torch.zeros(3, 1, 4, 5, dtype=torch.uint8))
    assert isinstance(law, Pictures) and law.picture == law.shape == (1, 4, 5)


LIBRARIES = ("diffusers", "transformers", "torch")


def imports_at_the_top(path: Path) -> set[str]:
    """The libraries that a module imports when it is imported itself."""
    found = set()
    text = path.read_text(encoding="utf-8")
    if not any(f"import {name}" in text or f"from {name}" in text for name in LIBRARIES):
        return found
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_the_libraries_are_imported_when_they_are_used():
    """No module of ours imports diffusers or transformers with itself; one imports torch so."""
    root = Path(diffgeo.__file__).parent
    found = {path: imports_at_the_top(path) for path in root.rglob("*.py")}
    assert "torch" in found[root / "denoiser.py"]
    late = set(LIBRARIES) - {"torch"}
    assert [path for path, names in found.items() if names & late] == []
    inside = (root / "pretrained/latent/networks.py").read_text(encoding="utf-8")
    assert all(f"import {name}" in inside for name in late)  # where they are used
