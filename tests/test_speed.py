"""The meter of a training against hand-made clocks and counts: no assertion here depends on how
fast this machine is."""

import pytest
import torch
from torch import nn

from diffgeo.machine import precision, speed
from diffgeo.machine.speed import Meter, flops, peak, product_rate


def test_flops_of_a_convolution_by_hand():
    """A 3 x 3 convolution from 5 to 7 channels on 8 x 8: 2 * 9 * 5 * 7 * 64 operations an image."""
    net = nn.Sequential(nn.Conv2d(5, 7, 3, padding=1), nn.Dropout(0.5))
    before = torch.random.get_rng_state()
    assert flops(net, torch.zeros(3, 5, 8, 8)) == 3 * 2 * 9 * 5 * 7 * 64
    assert torch.equal(torch.random.get_rng_state(), before) and net.training


def test_rates_and_the_share_of_the_peak(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    meter = Meter(batch=10, step=4, cost=3e6, limit=1e9)
    now[0] += 2
    assert meter.report(24) == {"images_per_s": 100.0, "share_of_peak": pytest.approx(0.3)}
    now[0] += 50  # a checkpoint
    meter.resume()
    now[0] += 2
    assert meter.report(34)["images_per_s"] == 50.0
    assert meter.total() == {"images_per_s": 75.0, "share_of_peak": pytest.approx(0.225)}


def test_a_measured_peak_is_the_best_product_s_operations_a_second(monkeypatch):
    """Products of 4, 8, 2 and 1/2 seconds, of which the first is not counted: 2 n^3 operations in
    half a second."""
    ends = iter([0, 4, 10, 18, 20, 22, 30, 30.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(ends))
    assert product_rate(torch.device("cpu"), torch.float32, 16) == 2 * 16**3 / 0.5


@pytest.mark.parametrize(
    "name, known",
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A40", "A40"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA L40", None),
        ("NVIDIA A10G", None),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
    ],
)
def test_a_peak_is_that_of_the_device_or_measured(monkeypatch, name, known):
    """A device whose name only contains another's is measured, and in the precision asked for."""
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: name)
    asked = []
    monkeypatch.setattr(
        speed,
        "product_rate",
        lambda device, dtype: asked.append((dtype, torch.backends.cuda.matmul.allow_tf32)) or 1.0,
    )
    for kind, column in speed.COLUMN.items():
        assert peak.__wrapped__(torch.device("cuda"), kind) == (
            speed.PEAKS[known][column] * 1e12 if known else 1.0
        )
    assert asked == (
        [] if known else [(torch.bfloat16, True), (torch.float32, True), (torch.float32, False)]
    )


def test_a_precision_lasts_as_long_as_its_block():
    """In nested blocks and after an error the flags are what they were."""

    def flags():
        return (
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cudnn.benchmark,
        )

    precision.allow_tf32("float32")
    assert flags() == (False, False, False)
    with precision.running("bf16", recurring=True):
        assert flags() == (True, True, True)
        with pytest.raises(ValueError), precision.running("float32"):
            assert flags() == (False, False, False)
            raise ValueError
        assert flags() == (True, True, True)
    assert flags() == (False, False, False)


def test_what_is_measured_is_measured_in_full():
    """torch lets convolutions be TF32 unless told otherwise; an experiment tells it, whatever ran
    before in this process."""
    from hydra import compose, initialize_config_dir

    from diffgeo.config.build import assemble
    from diffgeo.config.line import conf_dir

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        assemble(compose("evaluate", overrides=["data=line", "device=cpu"]))
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
