"""What a sweep of 8 planar trainings would gain as one batched network: a prototype, for MLPTanh
and Adam, checked against the single runs.

Every replica keeps its own stream of batches (`Training.batches`); weights [8,P], gradients,
moments and averages are one buffer each, and a layer is one `baddbmm`. At batch 512 the products
and tanh are most of a step already, so there is little left to share.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from benchmarks.measure import Row, interleaved
from diffgeo.data import Line
from diffgeo.denoiser import Network
from diffgeo.nn import MLPTanh
from diffgeo.parameterization import Epsilon
from diffgeo.schedule import VE
from diffgeo.training import Trainer, Training
from diffgeo.training.batches import Batch
from diffgeo.training.weighting import Power

REPLICAS = 8
STEPS = 128


def trainings(batch: int) -> list[Training]:
    """One training for each seed."""
    trainer = Trainer(steps=STEPS, batch=batch)
    schedule = VE(sigma_min=0.02, sigma_max=80.0)
    out = []
    for seed in range(REPLICAS):
        torch.manual_seed(seed)
        model = Network(MLPTanh((2,)), Epsilon())
        out.append(Training(trainer, model, Line(), schedule, Power(2), seed))
    return out


def sequential(batch: int) -> Tensor:
    """The averages [8,P] of 8 single runs."""
    every = trainings(batch)
    for training in every:
        for _ in training.run():
            pass
    return torch.stack([training.average for training in every])


def forward(parameters: list[Tensor], x: Tensor, noise: Tensor) -> Tensor:
    """MLPTanh of all replicas: weights [8,out,in], biases [8,out], x [8,B,2], noise [8,B] ->
    [8,B,2]."""
    *hidden, w_out, b_out = parameters
    h = torch.cat((x, noise[..., None]), -1)
    for w, b in zip(hidden[::2], hidden[1::2], strict=True):
        h = torch.baddbmm(b[:, None], h, w.mT).tanh()
    return torch.baddbmm(b_out[:, None], h, w_out.mT)


def together(replicas: list[Batch]) -> Batch:
    """The replicas' steps side by side."""
    columns = zip(*(batch.columns() for batch in replicas), strict=True)
    return Batch(*(torch.stack(column, 1) for column in columns))


def stacked(rows: int) -> Tensor:
    """The same 8 averages from one batched training."""
    every = trainings(rows)
    trainer = every[0].trainer
    shapes = [p.shape for p in every[0].flat.parameters]
    values = torch.stack([t.flat.values for t in every])
    grad, exp_avg, exp_avg_sq, average = (torch.zeros_like(values) for _ in range(4))
    average.copy_(values)
    updates = torch.zeros(())
    size = every[0].batches.chunk
    chunk = None
    prepared: list[Batch] = []

    def split(buffer: Tensor) -> list[Tensor]:
        parts = buffer.split([shape.numel() for shape in shapes], 1)
        return [part.view(REPLICAS, *shape) for part, shape in zip(parts, shapes, strict=True)]

    parameters = [v.requires_grad_() for v in split(values.detach())]
    for k in range(STEPS):
        if k // size != chunk:
            chunk = k // size
            prepared = together([training.batches(chunk) for training in every]).each()
        batch = prepared[k % size]
        error = forward(parameters, batch.x, batch.noise) - batch.target
        loss = torch.dot(error.flatten(), (batch.slope * error.detach()).flatten())
        gradients = torch.autograd.grad(loss, parameters)
        torch.cat([g.flatten(1) for g in gradients], 1, out=grad)
        with torch.no_grad():
            adamw(
                [values],
                [grad],
                [exp_avg],
                [exp_avg_sq],
                [],
                [updates],
                fused=True,
                amsgrad=False,
                maximize=False,
                eps=trainer.eps,
                beta1=trainer.betas[0],
                beta2=trainer.betas[1],
                lr=trainer.lr * trainer.share(k),
                weight_decay=0.0,
            )
            average.lerp_(values, 1 - min(trainer.ema, (1 + k) / (10 + k)))
    return average


def rows() -> list[Row]:
    out = []
    for batch, bar in ((512, 3.0), (128, math.nan)):
        torch.testing.assert_close(stacked(batch), sequential(batch), rtol=1e-4, atol=1e-5)
        variants = {"ours": partial(stacked, batch), "one by one": partial(sequential, batch)}
        seconds = interleaved(variants, rounds=3)
        rate = {name: REPLICAS * STEPS / s for name, s in seconds.items()}
        what = f"sweep of 8 as one network (prototype), batch {batch}"
        out.append(Row(what, "steps/s", rate["ours"], rate["one by one"], bar, "one by one"))
    return out
