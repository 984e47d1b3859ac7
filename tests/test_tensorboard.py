"""TensorBoard's event files, read back by its own reader: scalars, figures, the config, and what a
run that is taken up again leaves."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from diffgeo.store.boards import TensorBoard
from diffgeo.store.files import read_json

pytest.importorskip("tensorboard")


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard"), {"images": 0, "tensors": 0, "scalars": 0})
    read.Reload()
    return read


def scalars(read, name) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read.Scalars(name)]


TRAIN = (
    *("train", "model=cem", "data=circle", "trainer.steps=8", "trainer.log_every=2", "n=20"),
    *("trainer.batch=32", "trainer.pool=1", "logger=tensorboard", "metrics=quick"),
    *("metrics.flow=null", "sampler.steps=3", "figures=[loss]", "hydra.run.dir=run"),
)


@pytest.mark.slow
def test_a_run_is_taken_up_at_its_step_and_read_back(inside, tmp_path):
    """Stopped after its first report, which lies at step 2, and gone on with: each step once, the
    metrics at the last one, the picture as the file has it, the config as it was resolved."""
    stopped = inside(*TRAIN, "max_seconds=0")
    assert "stopped at step" in stopped.stdout, stopped.stderr
    read = events(tmp_path / "run")
    assert [step for step, _ in scalars(read, "loss")] == [2, 4][: len(scalars(read, "loss"))]
    done = inside("train", "resume=run")
    assert done.returncode == 0, done.stderr
    read = events(tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = [(line["step"], line["loss"]) for line in map(json.loads, lines)]
    assert [step for step, _ in logged] == [2, 4, 6, 8]
    assert scalars(read, "loss") == [(step, np.float32(loss)) for step, loss in logged]
    metrics = read_json(tmp_path / "run" / "metrics.json")
    for name, value in metrics.items():
        assert scalars(read, f"metrics/{name}") == [(8, np.float32(value))]
    (picture,) = read.Images("figures/loss")
    with Image.open(tmp_path / "run" / "figures" / "loss.png") as drawn:
        assert (picture.width, picture.height, picture.step) == (*drawn.size, 8)
    (text,) = read.Tensors("config/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    config = json.loads(shown)
    assert config["trainer"]["steps"] == 8 and config["seed"] == 0


def test_what_lies_beyond_the_step_that_is_taken_up_is_left_out(tmp_path):
    """A process that died at step 5, after a checkpoint at 3, leaves steps 4 and 5 to the next. The
    rest is read back as it was written: the config, a picture, rates, metrics at the last step."""
    config = {"seed": 0, "model": {"predicts": "x0"}}
    first = TensorBoard(tmp_path, config)
    for step in range(1, 6):
        first.log(step, {"loss": 1.0})
    first.writer.close()
    again = TensorBoard(tmp_path, config, step=3)
    for step in range(4, 7):
        again.log(step, {"loss": 2.0})
    again.speed(6, {"points_per_s": 5.0})
    pixels = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3)
    Image.fromarray(pixels).save(tmp_path / "cloud.png")
    again.figure("cloud", tmp_path / "cloud.png")
    again.finish({"distance/mean": 0.25}, None)
    read = events(tmp_path)
    found = scalars(read, "loss")
    assert found == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]
    assert scalars(read, "speed/points_per_s") == [(6, 5.0)]
    assert scalars(read, "metrics/distance/mean") == [(6, 0.25)]
    (picture,) = read.Images("figures/cloud")
    shown = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))
    assert picture.step == 6 and np.array_equal(shown, pixels)
    (text,) = read.Tensors("config/text_summary")
    assert json.loads(text.tensor_proto.string_val[0].decode()) == config


def test_without_the_library_the_line_says_how_to_get_it(inside, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    done = inside("train", "data=circle", "logger=tensorboard", "hydra.run.dir=none")
    assert done.returncode == 2
    assert done.line == (
        "diffgeo: logger=tensorboard needs tensorboard: pip install 'diffgeo[tensorboard]'"
    )
    assert not (tmp_path / "none").exists()
