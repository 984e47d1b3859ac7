"""In what precision a network runs. Its weights, their average and every sum over a batch stay
float32, a sampler's state float64.

    float32    as it is
    tf32       products of float32 rounded to 10 bits of mantissa, on a GPU that has them
    bf16       autocast: matrix products and convolutions in bfloat16
    auto       for training bf16 on a GPU; for sampling tf32 there; float32 on a CPU

What is promised: on a CPU the same config, seed and number of threads give the same bytes. On a GPU
every process draws the same random bits, but products and sums agree to their rounding only, which
training amplifies: cuDNN times its algorithms where shapes recur and may choose others in the next
process, and some gradients are summed in the order in which threads arrive.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from diffgeo.core import Denoiser, Sigma
from diffgeo.errors import UsageError

PRECISIONS = ("float32", "tf32", "bf16", "auto")


def check(option: str, name: str) -> None:
    """Raise UsageError on an unknown precision, naming the option."""
    if name not in PRECISIONS:
        raise UsageError(f"{option}={name} is unknown: write float32, tf32, bf16 or auto")


def resolved(name: str, device: torch.device, auto: str, option: str = "trainer.precision") -> str:
    """`name`, where it is not auto; else `auto` on a GPU and float32 on a CPU. Raises what `check`
    raises."""
    check(option, name)
    if name != "auto":
        return name
    return auto if device.type == "cuda" else "float32"


def autocast(device: torch.device, name: str):
    """A fresh context for one forward pass: autocast keeps rounded weights until it is left, and a
    step changes the weights."""
    if name != "bf16":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def allow_tf32(name: str) -> None:
    """Let float32 products on a GPU be TF32, or not."""
    allowed = name != "float32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


@contextlib.contextmanager
def running(name: str, recurring: bool = False) -> Iterator[None]:
    """Inside, float32 products on a GPU are what the precision `name` says; afterwards what they
    were.

    recurring: the same shapes come again and again, so that cuDNN may time its algorithms once for
        each.
    """
    matmul = torch.backends.cuda.matmul
    cudnn = torch.backends.cudnn
    held = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    allow_tf32(name)
    cudnn.benchmark = recurring
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = held


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """float32 products on a GPU as they are on a CPU, whatever precision networks run in: the same
    FID, the same exact denoiser."""
    held = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = held


@dataclass(frozen=True)
class Cast:
    """A denoiser whose network runs under autocast."""

    denoise: Denoiser
    device: torch.device
    precision: str

    def __call__(self, x: Tensor, sigma: Sigma, **cond) -> Tensor:
        with autocast(self.device, self.precision):
            return self.denoise(x, sigma, **cond)
