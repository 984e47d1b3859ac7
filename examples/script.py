"""A law and a network of one's own, trained, measured and drawn: `python examples/script.py`.

The law knows only how to draw; the network is an ordinary module of torch. Every line is checked by
mypy, as a user's script would be.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import diffgeo
from diffgeo import plot


class Flower:
    """r = 1 + .3 cos 5u, u uniform: a closed curve of five petals."""

    shape = (2,)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n points, [n,2], whose randomness is the generator's."""
        u = 2 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
        r = 1 + 0.3 * torch.cos(5 * u)
        return torch.stack([r * torch.cos(u), r * torch.sin(u)], 1)


class Waves(nn.Module):
    """F(x, noise): three layers of sines."""

    def __init__(self, shape: tuple[int, ...], width: int = 96):
        super().__init__()
        self.inp = nn.Linear(shape[0] + 1, width)
        self.middle = nn.Linear(width, width)
        self.out = nn.Linear(width, shape[0])

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """x [B,2], already scaled to unit size; noise [B], log(sigma)/4 -> [B,2]."""
        hidden = torch.sin(3 * self.inp(torch.cat((x, noise[:, None]), 1)))
        prediction: Tensor = self.out(hidden + torch.sin(self.middle(hidden)))
        return prediction


def main(steps: int = 1500, n: int = 800) -> dict[str, float]:
    """Train, measure n samples, draw them into flower.png; the numbers."""
    trained = diffgeo.train(Flower(), model="cem", net=Waves, steps=steps, seed=0)
    drawn = diffgeo.simulate(trained.data, trained.model, steps=20).draw(n)
    numbers = diffgeo.evaluate(drawn, trained.data)
    print(f"{drawn.nfe:.0f} evaluations a sample")
    for name in ("transport/w2", "transport/sliced_w2", "transport/energy"):
        floor = numbers[f"{name}_floor"]
        spread = numbers[f"{name}_floor_sd"]
        print(f"{name:20} {numbers[name]:.3f}    of fresh true samples {floor:.3f} +- {spread:.3f}")
    plot.cloud("flower.png", drawn.samples, trained.data)
    return numbers


if __name__ == "__main__":
    main()
