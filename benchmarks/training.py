"""Training in the plane: the paper's network (MLP 3 x 64, tanh), batch 512, one thread; steps a CPU
second. And on images: a U-Net on the digits (8 x 8), batch 128; images a CPU second."""

from __future__ import annotations

import math
from functools import partial

import torch

from benchmarks.measure import Row, interleaved, peer
from diffgeo.core import expand
from diffgeo.data import Line
from diffgeo.denoiser import Network
from diffgeo.nn import MLPTanh
from diffgeo.parameterization import Epsilon
from diffgeo.schedule import VE
from diffgeo.training import Trainer, Training
from diffgeo.training.weighting import Power

STEPS = 512
BATCH = 512
LOW = 0.02
HIGH = 80.0
IMAGE_STEPS = 8
IMAGE_BATCH = 128


def ours() -> None:
    """Training.run, with its schedule of rates and its moving average."""
    model = Network(MLPTanh((2,)), Epsilon())
    trainer = Trainer(steps=STEPS, batch=BATCH)
    schedule = VE(sigma_min=LOW, sigma_max=HIGH)
    for _ in Training(trainer, model, Line(), schedule, Power(2)).run():
        pass


def eager(**options) -> None:
    """The loop that everybody writes: DDPM's loss on the same line, no moving average, a constant
    rate."""
    net = MLPTanh((2,))
    adam = torch.optim.Adam(net.parameters(), lr=2e-3, **options)
    for _ in range(STEPS):
        x0 = torch.stack([torch.randn(BATCH), torch.zeros(BATCH)], 1)
        sigma = torch.exp(math.log(LOW) + math.log(HIGH / LOW) * torch.rand(BATCH))
        eps = torch.randn_like(x0)
        x = x0 + sigma[:, None] * eps
        answer = net(x / torch.sqrt(1 + sigma**2)[:, None], sigma.log() / 4)
        loss = torch.nn.functional.mse_loss(answer, eps)
        adam.zero_grad()
        loss.backward()
        adam.step()


def smalldiffusion(package):
    """smalldiffusion's own loop, its MLP with the same hidden layers (GELU), a DataLoader over
    points of the line."""
    from torch.utils.data import DataLoader

    points = torch.stack([torch.randn(16 * BATCH), torch.zeros(16 * BATCH)], 1)
    schedule = package.ScheduleLogLinear(200, LOW, HIGH)

    def run() -> None:
        loader = DataLoader(points, batch_size=BATCH, shuffle=True)
        net = package.TimeInputMLP(hidden_dims=(64, 64, 64))
        for _ in package.training_loop(loader, net, schedule, epochs=STEPS // 64):
            pass

    return run, STEPS // 64 * 16


def unet():
    """A step on images: our loop with the images' options, or the loop that everybody writes, on
    the same network and the same images."""
    from diffgeo.data import image_set
    from diffgeo.nn import UNet
    from diffgeo.parameterization import EDM
    from diffgeo.training.ema import Power as PowerAverage

    data = image_set("digits")
    make = partial(
        UNet, data.shape, channels=32, mult=(1, 2), blocks=1, attention=(), groups=8, dropout=0.0
    )
    trainer = Trainer(
        steps=IMAGE_STEPS,
        batch=IMAGE_BATCH,
        lr=2e-4,
        clip=1.0,
        ema=PowerAverage(),
        channels_last=True,
    )
    schedule = VE(sigma_min=0.002, sigma_max=80.0)
    training = Training(trainer, Network(make(), EDM()), data, schedule, Power(2))

    def ours() -> None:
        training.step = 0
        for _ in training.run():
            pass

    def plain() -> None:
        model = make()
        adam = torch.optim.Adam(model.parameters(), lr=2e-4)
        average = [p.detach().clone() for p in model.parameters()]
        for _ in range(IMAGE_STEPS):
            x0 = data.dequantize(data.images[torch.randint(len(data.images), (IMAGE_BATCH,))])
            sigma = torch.exp(1.2 * torch.randn(IMAGE_BATCH) - 1.2)
            eps = torch.randn_like(x0)
            x = x0 + expand(sigma, x0) * eps
            answer = model(x / expand(torch.sqrt(1 + sigma**2), x), sigma.log() / 4)
            loss = torch.nn.functional.mse_loss(answer, eps)
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            for a, p in zip(average, model.parameters(), strict=True):
                a.lerp_(p.detach(), 1e-3)

    return {"ours": ours, "plain eager": plain}


def rows() -> list[Row]:
    variants = {"ours": ours, "plain eager": eager, "fused Adam": lambda: eager(fused=True)}
    steps = dict.fromkeys(variants, STEPS)
    if package := peer("smalldiffusion"):
        variants["smalldiffusion"], steps["smalldiffusion"] = smalldiffusion(package)
    seconds = interleaved(variants)
    rate = {name: steps[name] / seconds[name] for name in variants}
    bars = {"plain eager": 1.5, "fused Adam": math.nan, "smalldiffusion": 2.5}
    what = "training step, MLP 3 x 64, batch 512"
    planar = [
        Row(what, "steps/s", rate["ours"], rate.get(name, math.nan), bar, name)
        for name, bar in bars.items()
    ]
    seconds = interleaved(unet(), rounds=3)
    images = {name: IMAGE_STEPS * IMAGE_BATCH / spent for name, spent in seconds.items()}
    what = "training step, U-Net (32, 64 channels) on 8 x 8, batch 128, with clipping and average"
    last = Row(what, "images/s", images["ours"], images["plain eager"], 1.0, "plain eager")
    return [*planar, last]
