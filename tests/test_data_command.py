"""`diffgeo data list|prepare|check`, and the configs of the image sets."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from test_data_errors import damage
from test_prepare import idx_files, photographs

from diffgeo.commands.data import check as data_check
from diffgeo.commands.data import list as data_list
from diffgeo.commands.data import prepare as data_prepare
from diffgeo.config.build import build
from diffgeo.data.sets import SOURCES
from diffgeo.errors import DiffgeoError, UsageError

CONF = Path(__file__).parents[1] / "conf" / "data"


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFGEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DIFFGEO_DATA", str(tmp_path / "root"))
    monkeypatch.setattr("diffgeo.data.sources.fetch", lambda dataset, folder: None)


def test_list_says_what_is_prepared(tmp_path, capsys):
    data_list.main([])
    rows = {
        line.split("|")[1].strip(): line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("|")
    }
    assert (
        set(SOURCES) <= set(rows)
        and "in the package" in rows["digits"]
        and "CC BY 4.0" in rows["digits"]
    )
    assert [cell.strip() for cell in rows["mnist"].split("|")[2:6]] == [
        "28 x 28 grey, 60 000 + 10 000",
        "CC BY-SA 3.0",
        "no",
        "",
    ]
    idx_files(tmp_path / "root" / "mnist" / "raw", packed=True)
    data_prepare.main(["mnist"])
    capsys.readouterr()
    data_list.main([f"data.root={tmp_path / 'root'}"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| mnist"))
    held = sum(p.stat().st_size for p in (tmp_path / "root" / "mnist").glob("*.npy"))
    assert [cell.strip() for cell in row.split("|")[4:6]] == ["mnist", f"{held / 1e3:.0f} kB"]


def test_prepare_then_check(tmp_path, capsys):
    root = tmp_path / "other"
    idx_files(root / "mnist" / "raw", packed=True)
    with pytest.raises(
        UsageError, match=f"is not there: write `diffgeo data prepare mnist data.root={root}` first"
    ):
        data_check.main(["mnist", f"data.root={root}"])
    data_prepare.main(["mnist", f"data.root={root}"])
    assert "train_images  uint8 12x28x28" in capsys.readouterr().out
    data_check.main(["mnist", f"data.root={root}"])
    out = capsys.readouterr().out
    assert out.count(" right") == 4 and "mnist is as its manifest says" in out
    damage(root / "mnist" / "test_images.npy", 3000)
    with pytest.raises(DiffgeoError, match="test_images.npy is corrupt"):
        data_check.main(["mnist", f"data.root={root}"])


def test_prepare_mends_what_its_source_can_mend(tmp_path, capsys):
    raw = tmp_path / "root" / "mnist" / "raw"
    idx_files(raw, packed=False)
    data_prepare.main(["mnist"])
    damage(tmp_path / "root" / "mnist" / "test_images.npy", 3000)
    data_prepare.main(["mnist"])
    assert "test_images.npy is corrupt" in capsys.readouterr().err
    data_check.main(["mnist"])
    damage(tmp_path / "root" / "mnist" / "test_images.npy", 3000)
    for file in raw.iterdir():
        file.unlink()
    with pytest.raises(DiffgeoError, match="test_images.npy is corrupt"):
        data_prepare.main(["mnist"])


def test_prepare_with_options(tmp_path, capsys):
    photographs(tmp_path / "jpgs", ["000001.jpg", "000002.jpg"])
    data_prepare.main(["celeba", f"data.path={tmp_path / 'jpgs'}", "data.size=16", "data.crop=140"])
    assert len(list((tmp_path / "root").glob("celeba_16_centre140_*/train_images.npy"))) == 1
    data_check.main(["celeba", f"data.path={tmp_path / 'jpgs'}", "data.size=16", "data.crop=140"])
    data_prepare.main(["folder", f"data.path={tmp_path / 'jpgs'}", "data.size=8"])
    assert "train_images  uint8 2x8x8x3" in capsys.readouterr().out
    data_prepare.main(["digits"])
    assert "needs no preparing: 1500 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, message",
    [
        (["imagenet"], "there is no set imagenet; `diffgeo data list` lists the"),
        (["mnist", "size"], r"^data prepare has no option size: did you mean data.size=\?$"),
        (["mnist", "nothing=1"], "data prepare has no option nothing; write data.root=..., data."),
        (["mnist", "data.size=big"], "data.size=big: write a whole number"),
        (["mnist", "data.download=perhaps"], "data.download=perhaps: write true or false"),
        (["mnist", "data.crop=140"], "data.crop is no option of data=mnist"),
        (["mnist", "data.download=false"], "put the four files"),
    ],
)
def test_refused_lines(line, message):
    with pytest.raises(UsageError, match=message):
        data_prepare.main(line)


def test_the_commands_are_on_the_line(inside, tmp_path):
    done = inside("data", "check", "mnist")
    assert done.returncode == 2 and done.line.startswith(
        f"diffgeo: {tmp_path / 'root' / 'mnist'} is not there"
    )
    assert "| digits" in inside("data", "list").stdout
    assert inside("data", "prepare", "digits").returncode == 0


def node(name: str, **options):
    cfg = OmegaConf.load(CONF / f"{name}.yaml")
    return OmegaConf.create(
        {"data": {k: v for k, v in OmegaConf.merge(cfg, options).items() if k != "defaults"}}
    ).data


def test_every_set_has_its_config():
    for name in SOURCES:
        assert node(name).name == name and (CONF / f"{name}.yaml").read_text().startswith("# ")


def test_configs_build_their_law(tmp_path):
    digits = build(node("digits", only=[3, 8], limit=10, size=16, hold="memory", low=0.0))
    assert (
        digits.shape == (1, 16, 16)
        and len(digits) == 10
        and set(digits.labels.tolist()) <= {3, 8}
        and digits.low == 0
    )
    idx_files(tmp_path / "root" / "fashion_mnist", packed=True)
    assert len(build(node("fashion_mnist"))) == 12
    photographs(tmp_path / "root" / "celeba" / "img_align_celeba", ["000001.jpg"])
    celeba = build(node("celeba", size=32))
    assert celeba.shape == (3, 32, 32) and celeba.flip
    assert build(node("folder", path=str(tmp_path / "root" / "celeba"), size=8)).shape == (3, 8, 8)
    for name, options, message in (
        ("npz", {}, "write data.file=PATH.npz"),
        ("folder", {}, "write data.path=FOLDER"),
        ("digits", {"flip": "maybe"}, "flip=maybe is not true or false"),
        ("digits", {"limit": 2.5}, "limit=2.5 is not a whole number"),
        ("mnist", {"crop": 3}, "data.crop is no option of data=mnist"),
    ):
        with pytest.raises(UsageError, match=message):
            build(node(name, **options))
