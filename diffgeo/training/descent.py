"""One step of Adam on all parameters of a module at once, and of Muon on its matrices, at the rates
of a `Trainer`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from diffgeo.training.flat import Flat
from diffgeo.training.optim import Muon, takes
from diffgeo.training.trainer import Trainer


class Descent:
    """The optimizer of the parameters in `flat`; `state` is all that it remembers but `updates`,
    how many it has made."""

    def __init__(self, trainer: Trainer, flat: Flat):
        self.trainer = trainer
        self.flat = flat
        self.exp_avg = torch.zeros_like(flat.values)
        self.exp_avg_sq = torch.zeros_like(flat.values)
        self.updates = torch.zeros((), device=flat.values.device)
        matrices = [p for p in flat.parameters if takes(p)] if trainer.muon else []
        self.muon = Muon(matrices) if matrices else None

    def state(self) -> dict[str, Tensor]:
        """The moments by name, the tensors themselves."""
        moments = {"exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}
        return moments | ({"momenta": self.muon.momenta} if self.muon else {})

    def step(self, number: int) -> None:
        """Update number `number`, from 0, along the gradient in the buffer."""
        trainer = self.trainer
        grad = self.flat.grad
        share = trainer.share(number)
        if trainer.clip:
            grad.mul_(torch.clamp(trainer.clip / (grad.norm() + 1e-12), max=1.0))
        if self.muon:
            self.muon.step(trainer.muon * share)
        adamw(
            [self.flat.values],
            [grad],
            [self.exp_avg],
            [self.exp_avg_sq],
            [],
            [self.updates],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=trainer.betas[0],
            beta2=trainer.betas[1],
            lr=trainer.lr * share,
            weight_decay=trainer.weight_decay,
            eps=trainer.eps,
        )
