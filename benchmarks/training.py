"""Training in the plane: the paper's network (MLP 3 x 64, tanh), batch 512, one thread; steps a CPU second."""
from __future__ import annotations

import math

import torch

from benchmarks.measure import Row, interleaved, peer
from diffgeo.data import Line
from diffgeo.denoiser import Network
from diffgeo.nn import MLPTanh
from diffgeo.parameterization import Epsilon
from diffgeo.schedule import VE
from diffgeo.train import Trainer, Training
from diffgeo.weighting import Power

STEPS, BATCH, LOW, HIGH = 512, 512, 0.02, 80.0


def ours() -> None:
    """Training.run, with its schedule of rates and its moving average."""
    model = Network(MLPTanh((2,)), Epsilon())
    for _ in Training(Trainer(steps=STEPS, batch=BATCH), model, Line(), VE(sigma_min=LOW, sigma_max=HIGH), Power(2)).run():
        pass


def eager(**options) -> None:
    """The loop that everybody writes: DDPM's loss on the same line, no moving average, a constant rate."""
    net = MLPTanh((2,))
    adam = torch.optim.Adam(net.parameters(), lr=2e-3, **options)
    for _ in range(STEPS):
        x0 = torch.stack([torch.randn(BATCH), torch.zeros(BATCH)], 1)
        sigma = torch.exp(math.log(LOW) + math.log(HIGH / LOW) * torch.rand(BATCH))
        eps = torch.randn_like(x0)
        x = x0 + sigma[:, None] * eps
        loss = torch.nn.functional.mse_loss(net(x / torch.sqrt(1 + sigma**2)[:, None], sigma.log() / 4), eps)
        adam.zero_grad()
        loss.backward()
        adam.step()


def smalldiffusion(package):
    """smalldiffusion's own loop, its MLP with the same hidden layers (GELU), a DataLoader over points of the line."""
    from torch.utils.data import DataLoader

    points = torch.stack([torch.randn(16 * BATCH), torch.zeros(16 * BATCH)], 1)
    schedule = package.ScheduleLogLinear(200, LOW, HIGH)

    def run() -> None:
        loader = DataLoader(points, batch_size=BATCH, shuffle=True)
        for _ in package.training_loop(loader, package.TimeInputMLP(hidden_dims=(64, 64, 64)), schedule, epochs=STEPS // 64):
            pass
    return run, STEPS // 64 * 16


def rows() -> list[Row]:
    variants, steps = {"ours": ours, "plain eager": eager, "fused Adam": lambda: eager(fused=True)}, {}
    if package := peer("smalldiffusion"):
        variants["smalldiffusion"], steps["smalldiffusion"] = smalldiffusion(package)
    rate = {name: steps.get(name, STEPS) / seconds for name, seconds in interleaved(variants).items()}
    bars = {"plain eager": 1.5, "fused Adam": math.nan, "smalldiffusion": 2.5}
    what = "training step, MLP 3 x 64, batch 512"
    return [Row(what, "steps/s", rate["ours"], rate.get(name, math.nan), bar, name) for name, bar in bars.items()]
