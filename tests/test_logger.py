"""The JSON-lines log, and Weights & Biases offline: what was logged is read back from the run's own
file."""

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from diffgeo import plot
from diffgeo.commands.train import labelled
from diffgeo.config.swept import named, swept
from diffgeo.errors import UsageError
from diffgeo.run import Job
from diffgeo.store.logger import Jsonl, auto, has_key, jsonl, wandb


def records(path: Path):
    """The protobuf records of an offline run: a 7-byte header, then 32 KiB blocks of (crc u32,
    length u16, type u8, data)."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    at = 7
    part = b""
    while at < len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last (2, 3: first, middle)
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


def test_an_offline_run_holds_config_scalars_summary_and_samples(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    key = "0123456789abcdef" * 2 + "01234567"
    monkeypatch.setenv("WANDB_API_KEY", key)
    logger = wandb(
        tmp_path,
        {"model": {"predicts": "x0"}, "seed": 7},
        mode="offline",
        name="model=cem, seed=7",
        group="sweep",
        artifacts=True,
    )
    logger.log(5, {"loss": 0.25})
    logger.log(10, {"loss": 0.125})
    weights = tmp_path / "checkpoint" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights of step 10")
    logger.checkpoint(10, weights.parent)
    plot.loss(tmp_path / "loss.png", [(5, 0.25), (10, 0.125)])
    logger.figure("loss", tmp_path / "loss.png")
    logger.finish({"distance/mean": 0.5}, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    for written in tmp_path.rglob("*"):
        assert written.is_dir() or key.encode() not in written.read_bytes()
    (file,) = tmp_path.rglob("*.wandb")
    found = list(records(file))
    # on a busy machine W&B writes the config after the run, as a record of its own
    updates = [u for r in found for u in (*r.run.config.update, *r.config.update)]
    config = {u.key: json.loads(u.value_json) for u in updates}
    history = [
        {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in r.history.item}
        for r in found
        if r.HasField("history")
    ]
    summary = {
        "/".join(u.nested_key) or u.key: json.loads(u.value_json)
        for r in found
        for u in r.summary.update
    }
    (run,) = [r.run for r in found if r.HasField("run")]
    assert (run.display_name, run.run_group) == ("model=cem, seed=7", "sweep")
    kept = [r.artifact for r in found if r.HasField("artifact")]
    (artifact,) = [artifact for artifact in kept if artifact.type == "model"]
    assert set(artifact.aliases) == {"latest", "step-10"}
    (entry,) = artifact.manifest.contents
    assert (entry.path, entry.size) == ("model.safetensors", 18)
    assert config["seed"] == 7 and config["model"] == {"predicts": "x0"}
    assert [(h["_step"], h["loss"]) for h in history if "loss" in h] == [(5, 0.25), (10, 0.125)]
    assert summary["distance/mean"] == 0.5
    (picture,) = tmp_path.rglob("media/images/figures/loss*.png")
    assert picture.read_bytes() == (tmp_path / "loss.png").read_bytes()
    (table,) = tmp_path.rglob("media/table/samples*.json")
    assert json.loads(table.read_text())["data"] == [[1.0, 2.0], [3.0, 4.0]]
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        {"step": 5, "loss": 0.25},
        {"step": 10, "loss": 0.125},
    ]


def test_a_resumed_log_drops_what_lies_beyond_the_checkpoint(tmp_path):
    log = Jsonl(tmp_path)
    for step in (1, 2, 3, 4):
        log.log(step, {"loss": step / 2})
    with open(log.path, "a") as file:
        file.write('{"step": 5, "lo')  # the process died here
    Jsonl(tmp_path, step=3).log(4, {"loss": 9.0})
    assert [json.loads(x)["loss"] for x in log.path.read_text().splitlines()] == [
        0.5,
        1.0,
        1.5,
        9.0,
    ]
    Jsonl(tmp_path)
    assert log.path.read_text() == ""


def test_a_resumed_log_says_what_it_lost(tmp_path, capsys):
    """A checkpoint may lie between two lines, and before the first; none of them may be missing."""
    log = Jsonl(tmp_path, every=10)
    for step in (10, 20, 30):
        log.log(step, {"loss": step})
    for step in (5, 39, 30):
        Jsonl(tmp_path / "none" if step == 5 else tmp_path, step, every=10)
        assert capsys.readouterr().err == ""
    log.path.write_text(log.path.read_text().replace('{"step": 20', '"step": 20'))
    Jsonl(tmp_path, 39, every=10)
    assert "what was logged from step 10 to 39 is lost" in capsys.readouterr().err


def test_the_key_decides(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    assert (
        not has_key()
        and isinstance(auto(tmp_path, {}), Jsonl)
        and isinstance(jsonl(tmp_path, {}), Jsonl)
    )
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert has_key()
    (tmp_path / ".netrc").unlink()
    with pytest.raises(UsageError, match="wandb login"):
        wandb(tmp_path, {}, mode="online")
    with pytest.raises(UsageError, match="logger.mode=sometimes"):
        wandb(tmp_path, {}, mode="sometimes")


@pytest.mark.parametrize(
    "line, keys, name",
    [
        ("model=cem,epsilon seed=0 n=10", ("model",), "model=cem"),
        ("model=cem seed=0,1 n=range(1,4)", ("seed", "n"), "seed=0, n=10"),
        ("figures=[samples,loss] 'a=\"x,y\"' z='(1,2)'", (), ""),
        ("schedule@sampler.schedule=vp,ve x=[1,2],[3]", ("schedule@sampler.schedule", "x"), None),
    ],
)
def test_a_job_of_a_sweep_is_called_after_what_it_sets(line, keys, name):
    assert swept(line.split()) == keys
    overrides = ("model=cem", "seed=0", "n=10")
    if name is not None:
        assert named(overrides, keys) == name
    assert named(("schedule@sampler.schedule=vp",), keys) in ("", "sampler.schedule=vp")


def test_a_sweep_gives_its_jobs_names_and_one_group():
    """What the line names itself stays, and a logger without the options is left alone."""
    job = Job(Path("sweeps/noise/3"), ("model=cem", "seed=1"), True, ("seed",))
    node = OmegaConf.create({"logger": {"name": None, "group": None, "mode": "offline"}}).logger
    told = labelled(node, job)
    assert told == {"name": "seed=1", "group": "noise", "mode": "offline"}
    assert node.name is None
    node.group = "mine"
    assert labelled(node, job).group == "mine"
    assert labelled(node, Job(Path("runs/a"), ("seed=1",))).name is None
    plain = OmegaConf.create({"logger": {"_target_": "diffgeo.store.logger.jsonl"}}).logger
    assert labelled(plain, job) == plain


def test_a_key_without_wandb_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert isinstance(auto(tmp_path, {}), Jsonl)
    assert "wandb is not installed" in capsys.readouterr().err
