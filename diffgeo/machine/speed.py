"""How fast a training runs: examples a second, and the share of what the device could do.

    share = 3 * (floating-point operations of one forward pass) * (examples a second) / peak

A backward pass costs two forward ones. Operations are counted by torch's flop counter (matrix
products, convolutions and attention; a multiplication and an addition are two). The peak is the
vendor's figure for dense products in the precision in use; that of a CPU, or of a GPU that is not
in the table, is what a short matrix product reaches here.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache

import torch
from torch import Tensor, nn

from diffgeo.machine.precision import running

# TFLOP/s without sparsity: bf16, tf32, float32. From NVIDIA's data sheets; the first name found in
# the device's, as whole words, counts: an RTX A4000 is no A40.
PEAKS = {
    "B200": (2250, 1125, 75),
    "H200": (989.4, 494.7, 66.9),
    "H100 PCIe": (756, 378, 51.2),
    "H100 NVL": (835.5, 417.8, 60),
    "H100": (989.4, 494.7, 66.9),
    "A100": (312, 156, 19.5),
    "A40": (149.7, 74.8, 37.4),
    "A10": (125, 62.5, 31.2),
    "L40S": (362, 183, 91.6),
    "L4": (121, 60.5, 30.3),
    "RTX A6000": (154.8, 77.4, 38.7),
    "RTX 4090": (165.2, 82.6, 82.6),
    "RTX 3090": (71, 35.6, 35.6),
}
COLUMN = {"bf16": 0, "tf32": 1, "float32": 2}


class Clock:
    """CPU and wall seconds since the start, on top of what earlier processes of the same run
    spent."""

    def __init__(self, cpu: float = 0.0, wall: float = 0.0):
        self.cpu = cpu - time.process_time()
        self.wall = wall - time.monotonic()

    def read(self) -> tuple[float, float]:
        return self.cpu + time.process_time(), self.wall + time.monotonic()


@torch.no_grad()
def flops(net: nn.Module, *inputs: Tensor, **cond) -> int:
    """Floating-point operations of one forward pass of `net` on these inputs, in evaluation mode:
    nothing random is drawn."""
    from torch.utils.flop_counter import FlopCounterMode

    training = net.training
    net.eval()
    with FlopCounterMode(display=False) as counter:
        net(*inputs, **cond)
    net.train(training)
    return counter.get_total_flops()


@lru_cache
def peak(device: torch.device, precision: str) -> float:
    """What the device could do, FLOP/s, in `precision` (float32, tf32 or bf16)."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for known, figures in PEAKS.items():
            if re.search(rf"\b{known}\b(?! (Ti|D|Laptop)\b)", name):
                return figures[COLUMN[precision]] * 1e12
    with running(precision):
        return product_rate(device, torch.bfloat16 if precision == "bf16" else torch.float32)


def product_rate(
    device: torch.device, dtype: torch.dtype, n: int | None = None, repeats: int = 3
) -> float:
    """FLOP/s of the best of some n x n matrix products, after a first one that is not timed."""
    if n is None:
        n = 8192 if device.type == "cuda" else 768
    a = torch.ones(n, n, device=device, dtype=dtype)
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 2 * n**3 / min(seconds[1:])


class Meter:
    """Examples a second between two reports, and over all of them.

    batch: examples a step.
    step: the step at which the meter starts.
    unit: what an example is called.
    cost: FLOPs of one in training.
    limit: FLOP/s of all devices together.
    """

    def __init__(
        self, batch: int, step: int = 0, unit: str = "images", cost: float = 0.0, limit: float = 0.0
    ):
        self.batch = batch
        self.step = step
        self.unit = unit
        self.cost = cost
        self.limit = limit
        self.examples = 0
        self.seconds = 0.0
        self.started = time.perf_counter()

    def resume(self) -> None:
        """Forget the seconds since the last report: they went into a checkpoint or a preview."""
        self.started = time.perf_counter()

    def report(self, step: int) -> dict[str, float]:
        """What was reached since the last report, `step` being the step now."""
        seconds = time.perf_counter() - self.started
        examples = (step - self.step) * self.batch
        self.seconds += seconds
        self.examples += examples
        self.step = step
        self.resume()
        return self.rates(examples, seconds)

    def rates(self, examples: int, seconds: float) -> dict[str, float]:
        """Examples a second, and the share of the peak where cost and limit are known."""
        rate = examples / max(seconds, 1e-9)
        found = {f"{self.unit}_per_s": rate}
        if self.cost and self.limit:
            found["share_of_peak"] = self.cost * rate / self.limit
        return found

    def total(self) -> dict[str, float]:
        """Over the whole process, without what `resume` left out."""
        return self.rates(self.examples, self.seconds)
