"""What is read is what was written: a flipped bit, and anything made from what has changed since,
is refused in one line or made again."""

from shutil import copytree

import numpy as np
import pytest
import torch
from simulations import draw
from torch import nn

from diffgeo.core import generator
from diffgeo.data.images import Images
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.machine.distributed import ALONE
from diffgeo.machine.precision import Cast
from diffgeo.parameterization import EDM
from diffgeo.report.finish import pictures
from diffgeo.sampler import Euler
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation
from diffgeo.simulation.draw import origin, streamed
from diffgeo.store import shards
from diffgeo.store.checkpoint import load_tensors, save_tensors
from diffgeo.store.digest import of_file, provenance, verified

SIGMAS = VE(sigma_min=0.02, sigma_max=20.0).grid(3)
SHAPE = (1, 4, 4)
QUICK = "n=30 sampler.steps=3 metrics=quick figures=false"
NET = "trainer.steps=10 trainer.batch=128 net.width=8 net.depth=1 trainer.log_every=5"


def flip(path, at: int = -1, bit: int = 4) -> None:
    page = bytearray(path.read_bytes())
    page[at] ^= 1 << bit
    path.write_bytes(page)


# tensors


def test_a_flipped_bit_anywhere_in_a_file_of_tensors_is_one_line(tmp_path):
    """In the length, the header, its digest and the names of both, the facts, the numbers."""
    path = tmp_path / "a.safetensors"
    tensors = {
        "net.a": torch.arange(3.0),
        "b": torch.tensor(7),
        "c": torch.ones(2, dtype=torch.bfloat16),
    }
    save_tensors(path, tensors, step=40, nfe=1.5)
    read, facts = load_tensors(path)
    assert facts == {"step": "40", "nfe": "1.5"} and read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole)
        flip(path, at, bit=at % 8)
        with pytest.raises(DiffgeoError, match="is damaged") as error:
            load_tensors(path)
        assert "\n" not in str(error.value)


def test_weights_of_ours_are_held_to_their_digest_wherever_they_are_read(tmp_path):
    from diffgeo.pretrained.archive import contents

    path = tmp_path / "model.safetensors"
    save_tensors(path, {"net.a": torch.arange(3.0)}, step=1)
    assert torch.equal(contents(path, "model.path=PATH")["net.a"], torch.arange(3.0))
    flip(path)
    with pytest.raises(UsageError, match="damaged"):
        contents(path, "model.path=PATH")


def test_a_file_without_a_digest_is_taken_as_it_is(tmp_path):
    """Of another program, or of an older diffgeo."""
    from safetensors.torch import save_file

    for facts in ({"step": "3"}, None):
        save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", facts)
        tensors, told = load_tensors(tmp_path / "a.safetensors")
        assert torch.equal(tensors["a"], torch.ones(2)) and told == (facts or {})


# run folders


@pytest.fixture(scope="module")
def all_runs(made):
    """A trained run, its network sampled, and a theory."""
    return made(
        f"train model=epsilon data=circle {NET} {QUICK} hydra.run.dir=R",
        f"sample run=R {QUICK} hydra.run.dir=S",
        "theory certify sampler.steps=3 hydra.run.dir=T",
    )


@pytest.fixture
def runs(all_runs, tmp_path):
    return copytree(all_runs, tmp_path, dirs_exist_ok=True)


def test_a_finished_folder_says_what_it_holds(runs):
    said = provenance(runs / "R")["files"]
    assert set(said) == {
        "config.yaml",
        "overrides.yaml",
        "metrics.json",
        "metrics.jsonl",
        "speed.jsonl",
        "samples.npy",
        "checkpoint/clock.json",
        "checkpoint/model.safetensors",
    }
    assert {"metrics.json", "levels.csv", "config.yaml"} <= set(provenance(runs / "T")["files"])
    for name, written in said.items():
        assert written == of_file(runs / "R" / name)
        verified(runs / "R" / name)
        flip(runs / "R" / name)
        with pytest.raises(DiffgeoError, match=f"{name} is damaged: its contents are not what"):
            verified(runs / "R" / name)
    (runs / "R/provenance.json").unlink()
    assert all(verified(runs / "R" / name) for name in said)


@pytest.mark.parametrize(
    "name, line",
    [
        ("checkpoint/model.safetensors", f"sample run=R {QUICK}"),
        ("samples.npy", "evaluate run=R"),
        ("samples.npy", "evaluate samples=R data=circle"),
        ("samples.npy", f"sample model=exact data=circle noise=R {QUICK}"),
        ("overrides.yaml", f"sample run=R {QUICK}"),
        ("config.yaml", f"sample run=R {QUICK}"),
        ("metrics.json", "compare R"),
    ],
)
def test_a_flipped_bit_in_a_run_folder_is_one_line(inside, runs, name, line):
    if name.endswith("yaml"):  # one that leaves it well formed
        text = (runs / "R" / name).read_text()
        (runs / "R" / name).write_text(text.replace("30", "32"))
    else:
        flip(runs / "R" / name, at=-12, bit=1)
    done = inside(*line.split(), *([] if line.startswith("compare") else ["hydra.run.dir=new"]))
    assert done.returncode == 1 and f"R/{name} is damaged: its contents are not" in done.line
    assert not (runs / "new/metrics.json").exists()


def test_a_damaged_provenance_is_one_line(runs):
    for page in ("{", "[]", '{"files": 3}', "[" * 100_000):
        (runs / "R/provenance.json").write_text(page)
        with pytest.raises(DiffgeoError, match="provenance.json is damaged"):
            verified(runs / "R/samples.npy")


def test_a_run_killed_right_before_its_end_is_taken_up_with_another_n(inside, runs):
    """provenance.json was there already, and names files that now change."""
    (runs / "S/metrics.json").unlink()
    line = f"sample run=R {QUICK} n=40 hydra.run.dir=S".split()
    assert inside(*line).returncode == 0
    assert len(np.load(runs / "S/samples.npy")) == 40
    assert provenance(runs / "S")["files"]["samples.npy"] == of_file(runs / "S/samples.npy")
    assert inside("evaluate", "run=S", "hydra.run.dir=E").returncode == 0


def test_a_finished_folder_whose_weights_have_changed_since_is_refused(inside, runs):
    line = f"sample run=R {QUICK} hydra.run.dir=S".split()
    assert "is finished" in inside(*line).stdout
    weights = runs / "R/checkpoint/model.safetensors"
    tensors, facts = load_tensors(weights)
    save_tensors(weights, {name: 2 * value for name, value in tensors.items()}, **facts)
    (runs / "R/provenance.json").unlink()  # as while it is trained further
    done = inside(*line)
    assert done.returncode == 2 and "the weights of run=R have changed since" in done.line
    assert inside("sample", "run=R", *QUICK.split(), "hydra.run.dir=S2").returncode == 0
    assert not np.array_equal(np.load(runs / "S/samples.npy"), np.load(runs / "S2/samples.npy"))


def test_a_training_is_not_taken_up_on_other_points(inside, tmp_path):
    points = torch.randn(50, 2, generator=generator(0))
    np.save(tmp_path / "points.npy", points.numpy())
    line = f"train data=cloud data.file=points.npy model=edm sigma_data=1 {NET} {QUICK}"
    assert inside(*line.split(), "max_seconds=0", "hydra.run.dir=R").returncode == 0
    np.save(tmp_path / "points.npy", 2 * points.numpy())
    done = inside("train", "resume=R")
    assert done.returncode == 1 and "what data= names has changed since" in done.line
    np.save(tmp_path / "points.npy", points.numpy())
    assert inside("train", "resume=R").returncode == 0


# shards


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, noise):
        return torch.tanh(self.a(x) + noise[:, None, None, None])


def network(seed: int) -> Network:
    torch.manual_seed(seed)
    return Network(Small(), EDM()).eval()


@pytest.fixture(scope="module")
def law():
    g = torch.Generator().manual_seed(0)
    return Images(torch.randint(0, 256, (30, *SHAPE), generator=g).to(torch.uint8))


def simulated(denoise, **other):
    return Simulation(
        **{"sampler": Euler(), "denoise": denoise, "sigmas": SIGMAS} | other, shape=SHAPE
    )


def test_the_origin_of_samples_is_all_that_no_config_says(law):
    g = torch.Generator().manual_seed(1)
    noise = torch.randn(3, *SHAPE, generator=g)
    other = Images(255 - law.images)
    cpu = torch.device("cpu")
    a = origin(simulated(network(0)), law)
    assert a == origin(simulated(network(0)), law) == origin(simulated(network(0)), other)
    assert a == origin(simulated(Cast(network(0), cpu, "bf16")), law)
    different = [
        a,
        origin(simulated(network(1)), law),
        origin(simulated(network(0), sigmas=SIGMAS[:-1]), law),
        origin(simulated(network(0), noise=noise), law),
        origin(simulated(network(0), noise=-noise), law),
        origin(simulated(network(0), noise=noise, first=1), law),
        origin(simulated(law.denoiser()), law),
        origin(simulated(other.denoiser()), other),
    ]
    assert len(set(different)) == len(different)


def test_a_sampling_taken_up_with_other_weights_draws_all_again(law, tmp_path, capsys):
    """12 of 30 were drawn by the network as it was; the rest, and those, come from that of now."""
    before = simulated(network(0))
    drawn = [range(6), range(6, 12)]
    for piece, part in zip(drawn, before.parts(drawn), strict=True):
        shards.write(tmp_path / "shards", piece, law.store(part.samples), 3.0, origin(before, law))
    new = network(1)
    streamed(simulated(new), range(30), 6, law, tmp_path, ALONE)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1 and told[0].startswith("2 of 2 shards in ") and "weights" in told[0]
    whole = draw(Euler(), new, SIGMAS, SHAPE, 30, batch=6).samples
    assert np.array_equal(np.load(tmp_path / "samples.npy"), law.store(whole))
    streamed(simulated(new), range(30), 6, law, tmp_path, ALONE)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("at", [-3, 60])
def test_a_damaged_shard_is_said_and_drawn_again(law, tmp_path, capsys, at):
    simulation = simulated(network(0))
    streamed(simulation, range(12), 4, law, tmp_path, ALONE)
    held = (tmp_path / "samples.npy").read_bytes()
    flip(tmp_path / "shards/000000004-000000008.safetensors", at)
    streamed(simulation, range(12), 4, law, tmp_path, ALONE)
    assert "1 of 3 shards" in (told := capsys.readouterr().out) and "damaged" in told
    assert (tmp_path / "samples.npy").read_bytes() == held


def test_pictures_of_an_earlier_process_are_made_anew(law, tmp_path):
    pictures(law.images[:5], law, tmp_path / "samples", 0)
    pictures(255 - law.images[:3], law, tmp_path / "samples", 0)
    pictures(255 - law.images[:3], law, tmp_path / "fresh", 0)
    names = [f"{i:06d}.png" for i in range(3)]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == names
    for name in names:
        assert (tmp_path / "samples" / name).read_bytes() == (
            tmp_path / "fresh" / name
        ).read_bytes()


# caches


def test_a_damaged_cache_is_computed_again(law, tmp_path, monkeypatch):
    """Features, eigenvalues, moments and floors: the value of before, whatever the bit."""
    from diffgeo.data import Curve, moments
    from diffgeo.metrics import Tangential, features, floor

    class Net:
        name = "inception"
        batch = 10
        key = "a net"

        def __call__(self, images):
            return images.flatten(1)[:, :3].float()

    def everything() -> tuple:
        features._truth.clear()
        floors = floor.reference(Tangential(), Curve(), 50)
        spectra = torch.stack([moments.eigenvalues(law), moments.moments(law).variance])
        return features.of_truth(Net(), law, 20), spectra, floors

    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path))
    first = everything()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == {"features", "spectra", "moments", "floors"}
    pages = [path.read_bytes() for path in files]
    for path in files:
        at = path.read_bytes().find(b"values") + 40 if path.suffix == ".json" else -2
        flip(path, at, bit=0)
    again = everything()
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert first[2] == again[2] and [path.read_bytes() for path in files] == pages
