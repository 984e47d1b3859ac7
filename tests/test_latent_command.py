"""`diffgeo sample model=latent` and what it leaves: pictures that are the decoded samples of the
library's own simulation, their prompts, digests, sheets; killed and taken up again; and what the
other commands and metrics say of pictures without a law."""

import ast
import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from configs import composed
from here import run_here
from latent_folders import make
from omegaconf import OmegaConf
from PIL import Image

import diffgeo  # noqa: F401  torchvision's guard, before the libraries
from diffgeo.config.build import assemble
from diffgeo.config.build import make as make_parts
from diffgeo.config.prompted import check_options, check_sampler
from diffgeo.core import ImageSet, Known, Pictures, Run
from diffgeo.data import Images
from diffgeo.errors import UsageError
from diffgeo.machine.distributed import ALONE
from diffgeo.metrics import FID, KID, Distance, ImageDenoiserError
from diffgeo.metrics.clip import ClipScore
from diffgeo.metrics.frechet import between, moments
from diffgeo.metrics.nets import Pixels
from diffgeo.plot import prompted as sheets
from diffgeo.pretrained.latent import latent
from diffgeo.pretrained.latent.latents import Latents
from diffgeo.report.comparison import rows_below
from diffgeo.report.finish import pictures
from diffgeo.report.prompted import sheets as sheets_of
from diffgeo.sampler import RK45, Euler
from diffgeo.sampler.analytic_variance import AnalyticVariance
from diffgeo.schedule.scheduler_config import folder_schedule
from diffgeo.simulation import Simulation, draw
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
def simulation(place) -> Simulation:
    """The same samples in ten lines of Python."""
    denoise = latent(place / "sd")
    return Simulation(
        Euler(),
        denoise,
        folder_schedule(str(place / "sd")).grid(STEPS),
        denoise.shape,
        condition=denoise.condition(PROMPTS, guidance=4.0),
        initial=InChart(),
        in_chart=True,  # a sample is z, not x = z sqrt(1 + sigma^2), at the last level
    )


@pytest.fixture(scope="module")
def drawn(simulation) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents, and the pictures they decode to."""
    samples = simulation.draw(range(4), 2).samples
    return samples, simulation.denoise.decode(samples)


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
    """Enlarged twice; the words are ink below, and above all of them the names of the run."""
    with Image.open(place / "run/figures/samples.png") as opened:
        sheet = np.asarray(opened)
    stored = np.load(place / "run/samples.npy")
    high = 128 + sheets.LINE + sheets.GAP
    wide = 128 + sheets.GAP
    head = sheets.LINE + sheets.GAP
    assert sheet.shape == (head + 2 * high, sheets.GAP + 2 * wide, 3)
    assert (sheet[: sheets.LINE] < 128).any()
    for i in range(4):
        top = head + i // 2 * high
        left = sheets.GAP + i % 2 * wide
        shown = sheet[top : top + 128, left : left + 128]
        assert np.array_equal(shown, stored[i].repeat(2, 0).repeat(2, 1))
        below = sheet[top + 128 : top + 128 + sheets.LINE, left : left + 128]
        assert (below < 128).any()


def dying(folder, numbers, *others):
    """A process that is killed when it has written a shard."""
    shards.write(folder, numbers, *others)
    raise KeyboardInterrupt


def kept(simulation, place, folder, monkeypatch, write=shards.write) -> list[range]:
    """Draw by way of shards into `folder`; which were written."""
    data = Latents(str(place / "sd"), latents=True)
    written = []

    def noted(folder, numbers, *others):
        written.append(numbers)
        write(folder, numbers, *others)

    folder.mkdir(exist_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(draw, "shards", SimpleNamespace(**{**vars(shards), "write": noted}))
        with contextlib.suppress(KeyboardInterrupt):
            draw.streamed(simulation, range(4), 2, data, folder, ALONE, leave=False)
    return written


def test_a_killed_run_goes_on_from_its_shards(place, simulation, tmp_path, monkeypatch):
    """The bytes of the whole run; what was drawn is not drawn again."""
    assert kept(simulation, place, tmp_path, monkeypatch, dying) == [range(2)]
    assert kept(simulation, place, tmp_path, monkeypatch) == [range(2, 4)]
    for name in ("samples.npy", "latents.npy"):
        assert (tmp_path / name).read_bytes() == (place / "run" / name).read_bytes()


def test_shards_of_others_are_not_taken_up(place, simulation, tmp_path, monkeypatch, capsys):
    """Of other prompts, or decoded by other weights: the words and the weights are named by their
    bytes, whatever the files are called."""
    assert kept(simulation, place, tmp_path, monkeypatch, dying) == [range(2)]
    texts = ("a dog", *PROMPTS[1:])
    other = replace(simulation, condition=simulation.denoise.condition(texts, guidance=4.0))
    assert kept(other, place, tmp_path, monkeypatch, dying) == [range(2)]
    assert "1 of 1 shards" in capsys.readouterr().out
    data = Latents(str(place / "sd"))
    named = draw.origin(simulation, data, range(4))
    assert named == draw.origin(simulation, Latents(str(place / "sd")), range(4))
    digests = {**data.files.digests(), "vae/diffusion_pytorch_model.safetensors": "0"}
    monkeypatch.setattr(type(data.files), "digests", lambda files: digests)
    assert named != draw.origin(simulation, Latents(str(place / "sd")), range(4))


@pytest.mark.slow
def test_a_sample_belongs_to_its_number(place):
    """Samples 1 and 2 alone are those of the whole run, but for float32's last digit of a byte."""
    assert again(place, "first=1", "n=2", "figures=false", "hydra.run.dir=some") == 0
    some = np.load(place / "some/samples.npy").astype(int)
    whole = np.load(place / "run/samples.npy").astype(int)
    assert np.abs(some - whole[1:3]).max() <= 1 and np.abs(some - whole[0]).max() > 20
    assert (place / "some/prompts.txt").read_text() == "a dog\n\n"


def test_latents_in_the_place_of_pictures(place, drawn, tmp_path):
    """decode=false stores what was drawn; it decodes to the same pictures when one is looked at."""
    data = Latents(str(place / "sd"), decode=False)
    raw = data.store(drawn[0])
    assert raw.dtype == np.float32 and np.array_equal(raw, drawn[0].float().numpy())
    assert torch.equal(data.quantize(data.restore(raw)), drawn[1])
    assert isinstance(data, Pictures) and not isinstance(data, Known | ImageSet)
    pictures(data.restore(raw), data, tmp_path / "samples", 7)
    with Image.open(tmp_path / "samples/000010.png") as picture:
        assert np.array_equal(np.asarray(picture), drawn[1][3].permute(1, 2, 0).numpy())
    with pytest.raises(UsageError, match="no law"):
        data.sample(1, torch.Generator())
    for wrong in (raw[:0], raw[:, :2], (255 * raw).astype(np.uint8)):
        with pytest.raises(UsageError, match="decode=false"):
            data.restore(wrong)


@pytest.mark.slow
def test_latents_in_the_place_of_pictures_by_a_command(place, drawn):
    assert again(place, "decode=false", "png=true", "hydra.run.dir=raw") == 0
    assert np.array_equal(np.load(place / "raw/samples.npy"), drawn[0].float().numpy())
    with Image.open(place / "raw/samples/000003.png") as picture:
        assert np.array_equal(np.asarray(picture), drawn[1][3].permute(1, 2, 0).numpy())


def test_runs_of_the_same_prompts_lie_side_by_side(place, tmp_path):
    """A row a prompt, a column a run; a run of other prompts is not among them."""
    for name, sampler in (("0", "ddim"), ("1", "plms"), ("2", "heun")):
        shutil.copytree(place / "run", tmp_path / name, ignore=shutil.ignore_patterns("prov*"))
        (tmp_path / name / "overrides.yaml").write_text(f"[sampler={sampler}, n=4]")
    turned = 255 - np.load(place / "run/samples.npy")
    np.save(tmp_path / "1/samples.npy", turned)
    (tmp_path / "2/prompts.txt").write_text("another\n" * 4)
    (path,) = sheets_of(tmp_path, rows_below(tmp_path).rows)
    with Image.open(path) as opened:
        sheet = np.asarray(opened)
    wide = 128 + sheets.GAP
    top = 2 * sheets.LINE + sheets.GAP
    assert path.name == "prompts-0.png"
    assert sheet.shape == (top + 4 * wide, sheets.LEFT + 2 * wide, 3)
    for column, stored in enumerate((255 - turned, turned)):
        for row in range(4):
            y = top + row * wide
            x = sheets.LEFT + column * wide
            shown = sheet[y : y + 128, x : x + 128]
            assert np.array_equal(shown, stored[row].repeat(2, 0).repeat(2, 1))
            assert (sheet[y : y + 128, : sheets.LEFT] < 128).any()  # the prompt
    assert (sheet[:top, sheets.LEFT :] < 128).any()  # what is compared is said


@pytest.mark.slow
def test_a_sweep_ends_in_a_sheet(place):
    sweep = ["n=2", "sampler=ddim,plms", "sampler.steps=2", "hydra.sweep.dir=sweep", "-m"]
    assert again(place, *sweep) == 0
    with Image.open(place / "sweep/prompts-0.png") as opened:
        sheet = np.asarray(opened)
    stored = np.load(place / "sweep/1/samples.npy")
    shown = sheet[-128 - sheets.GAP : -sheets.GAP, -128 - sheets.GAP : -sheets.GAP]
    assert np.array_equal(shown, stored[1].repeat(2, 0).repeat(2, 1))


def test_large_pictures_are_averaged_and_long_prompts_cut(tmp_path):
    """600 pixels become 200; a line ends in dots where the column does."""
    grey = torch.full((1, 3, 600, 600), 90, dtype=torch.uint8)
    grey[..., ::3] = 93
    assert sheets.sized(grey).shape == (1, 3, 200, 200)
    assert set(sheets.sized(grey).unique().tolist()) == {91}
    page = sheets.Page(300, 100)
    text = page.cut("a cat " * 40, 120)
    assert text.endswith("...") and page.fits(text, 120) and not page.fits(text + "cat", 120)
    assert page.cut("a cat", 120) == "a cat"
    sheets.under_each(tmp_path / "one.png", grey, ["a cat " * 40])
    with pytest.raises(UsageError, match="as many prompts"):
        sheets.under_each(tmp_path / "two.png", grey, [])


def test_pictures_are_held_against_a_folder(place, tmp_path, capsys):
    """FID in pixels, of pictures of no set, against the moments of the cut photographs."""
    random = np.random.default_rng(0)
    cut = []
    for i in range(11):
        photograph = random.integers(0, 256, (64, 64 + 2 * i, 3), dtype=np.uint8)
        Image.fromarray(photograph).save(tmp_path / f"{i:02d}.png")
        cut.append(photograph[:, i : i + 64])
    own = torch.from_numpy(random.integers(0, 256, (12, 3, 64, 64), dtype=np.uint8))
    data = Latents(str(place / "sd"))
    metric = FID("pixels", reference=str(tmp_path))
    metric.prepare(data, 12)
    value = metric(Run(own), data)["frechet/pixels"]
    net = Pixels()
    photographs = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2)
    assert value == pytest.approx(between(moments(net(own)), moments(net(photographs))), rel=1e-9)
    facts = metric.describe(Run(own), data)
    name = tmp_path.name
    assert facts["reference"]["origin"] == f"11 pictures of {name}/" and facts["n"] == 12
    KID("pixels").prepare(data, 12)
    assert "left out: a KID needs training images" in capsys.readouterr().err
    assert KID("pixels")(Run(own), data) == {}


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
METRICS = (
    (Distance(), "have none"),
    (ImageDenoiserError(), "have none"),
    (FID(), "metrics.fid.reference="),
    (ClipScore(), "metrics.clip.folder="),
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
    assert assemble(config(place), lambda *others: parts).numbers == range(4)
    later = config(place)
    later.first = 1
    assert assemble(later, lambda *others: parts).numbers == range(1, 4)
    with pytest.raises(UsageError, match="adaptive"):
        check_options(config(place), RK45())
    with pytest.raises(UsageError, match="latents have none"):
        check_sampler(AnalyticVariance())
    for metric, message in METRICS:
        with pytest.raises(UsageError, match=message):
            metric.prepare(parts[0], 20)


def test_sides_of_a_picture(place):
    """Whole latents; the picture is eight times as large."""
    data = Latents(str(place / "sd"), height=64, width=80)
    assert data.picture == (3, 64, 80) and data.shape == (4, 8, 10)
    for wrong in ({"height": 60}, {"width": 0}, {"height": 2**20}):
        with pytest.raises(UsageError, match="multiple of 8"):
            Latents(str(place / "sd"), **wrong)
    with pytest.raises(UsageError, match="decode_batch=0"):
        Latents(str(place / "sd"), decode_batch=0)


MISTAKES = (("n=5", "holds 4 prompts"),)


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
    ("sample data=circle", "leave data= out"),
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


@pytest.mark.slow
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


LIBRARIES = ("diffusers", "transformers")


def imports_at_the_top(text: str) -> set[str]:
    """What a module imports when it is imported itself."""
    found = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    return found


def test_the_libraries_are_imported_when_they_are_used():
    """No module of ours imports diffusers or transformers with itself; one of them does later."""
    assert imports_at_the_top("import diffusers.models\nfrom transformers import A") == {*LIBRARIES}
    root = Path(diffgeo.__file__).parent
    later = []
    for path in root.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if any(f"import {name}" in text or f"from {name}" in text for name in LIBRARIES):
            assert not imports_at_the_top(text) & {*LIBRARIES}, path
            later.append(path.relative_to(root).as_posix())
    assert "pretrained/latent/networks.py" in later
