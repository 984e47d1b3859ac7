"""On a GPU the numbers are those of the CPU. Skipped where there is none."""

import json
import subprocess
import sys
import time

import pytest
import torch

from diffgeo.data.gaussian import Gaussian
from diffgeo.data.points import Points
from diffgeo.sampler import DDPM, DPMpp2M, Heun
from diffgeo.schedule import VE
from diffgeo.simulation import Simulation

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("method", [Heun(), DPMpp2M(), DDPM()], ids=lambda m: type(m).__name__)
def test_samples_are_those_of_the_cpu(method):
    """Noise is by number, the state float64: device and batch change rounding alone."""
    law = Gaussian([0.5, -1.0], [[2.0, 0.5], [0.5, 1.0]])
    sigmas = VE().grid(20)
    drawn = {}
    for device in ("cpu", "cuda"):
        simulation = Simulation(method, law.denoiser(), sigmas, law.shape, device=device)
        drawn[device] = simulation.draw(range(64), batch=17).samples.cpu()
    torch.testing.assert_close(drawn["cuda"], drawn["cpu"], rtol=1e-9, atol=1e-9)


def test_the_exact_denoiser_of_points_is_that_of_the_cpu():
    generator = torch.Generator().manual_seed(0)
    law = Points(torch.randn(500, 64, generator=generator, dtype=torch.float64).tolist())
    x = law.sample(32, generator) + 0.7 * torch.randn(32, 64, generator=generator).double()
    denoise = law.denoiser()
    there = denoise(x.cuda(), 0.7).cpu()
    torch.testing.assert_close(there, denoise(x, 0.7), rtol=1e-9, atol=1e-9)


def diffgeo(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "diffgeo", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_training_on_the_gpu_that_was_killed_ends_in_the_same_bytes(tmp_path):
    """Killed after its first checkpoint and taken up again: the weights of an undisturbed run."""
    options = ["data=digits", "net=unet_8", "device=cuda", "trainer.batch=32", "metrics=none"]
    options += ["trainer.steps=200", "trainer.log_every=20", "trainer.checkpoint_every=20"]
    options += ["figures=false", "n=8", "sampler.steps=2", "logger=jsonl"]
    whole = tmp_path / "whole"
    half = tmp_path / "half"
    weights = "checkpoint/model.safetensors"
    diffgeo("train", *options, f"hydra.run.dir={whole}")
    killed = [sys.executable, "-m", "diffgeo", "train", *options, f"hydra.run.dir={half}"]
    with subprocess.Popen(killed, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (half / weights).exists():
            time.sleep(0.01)
        process.kill()
    assert not (half / "metrics.json").exists()  # else it was not killed on its way
    diffgeo("train", f"resume={half}")
    assert (whole / weights).read_bytes() == (half / weights).read_bytes()
    told = json.loads((whole / "provenance.json").read_text())
    assert told["device"] == torch.cuda.get_device_name()
