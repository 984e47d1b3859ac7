"""The experiments on images, as a user runs them."""

import json

import numpy as np
import pytest

from diffgeo.data import image_set


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("model", ["edm", "epsilon"])
def test_two_minutes_of_digits_end_near_the_data(diffgeo, tmp_path, model):
    """The whole experiment: near the floor of pixels, no copies; a network that has seen a
    twentieth of it is far."""
    line = [
        "train",
        "experiment=digits",
        f"model={model}",
        "threads=1",
        "figures=false",
        "logger=jsonl",
    ]
    assert diffgeo(*line, "hydra.run.dir=whole").returncode == 0
    assert diffgeo(*line, "hydra.run.dir=short", "trainer.steps=75").returncode == 0
    whole = metrics(tmp_path / "whole")
    short = metrics(tmp_path / "short")
    assert (
        whole["frechet/pixels"] < 4 * whole["frechet/pixels_floor"]
        and whole["memorization/ratio"] < 0.02
    )
    assert short["frechet/pixels"] > 5 * whole["frechet/pixels"]


def test_the_exact_denoiser_of_the_digits_returns_them(inside, tmp_path):
    """Sampling from the exact denoiser gives training images to the byte, and the memorization
    ratio says so."""
    assert (
        inside(
            "sample", "model=exact", "data=digits", "n=50", "figures=false", "hydra.run.dir=run"
        ).returncode
        == 0
    )
    samples = np.load(tmp_path / "run/samples.npy")
    images = image_set("digits").images[:, 0].numpy()
    assert all((images == sample).all((1, 2)).any() for sample in samples)
    assert metrics(tmp_path / "run")["memorization/ratio"] == 1
