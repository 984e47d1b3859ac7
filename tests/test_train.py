"""The training loop against what it claims: closed-form optima, Adam's own step, resumption to the
byte."""

import math

import pytest
import torch

from diffgeo.core import generator
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.nn import MLPTanh
from diffgeo.parameterization import CEM, Epsilon
from diffgeo.schedule import OU, VE
from diffgeo.store.checkpoint import (
    load_state,
    load_tensors,
    load_weights,
    save_state,
    save_tensors,
)
from diffgeo.training import Trainer, Training, loss
from diffgeo.training.loop import DATA, Flat
from diffgeo.training.optim import Cosine, Geometric
from diffgeo.training.weighting import Power


class Normal:
    """N(0, I) in the plane: D = x/(1+sigma^2)."""

    shape = (2,)
    std = 1.0

    def sample(self, n, g):
        return torch.randn(n, 2, generator=g, dtype=torch.float64)


class Scalar(torch.nn.Module):
    """F(x, noise) = a*x: one parameter, whose best value is known."""

    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, noise):
        return self.a * x


def training(net=None, seed=0, parameterization=None, **options):
    torch.manual_seed(seed)
    model = Network(net or MLPTanh((2,), width=16, depth=2), parameterization or CEM())
    return Training(
        Trainer(**options), model, Normal(), VE(sigma_min=0.1, sigma_max=10.0), Power(2), seed
    )


def test_it_finds_the_minimizer():
    """F = a inp x, one level sigma = 1: E|a (x0+eps)/sqrt2 - x0|^2 is least at a = 1/sqrt2."""

    class One:
        def draw(self, n, g):
            return torch.ones(n, dtype=torch.float64)

    t = Training(
        Trainer(steps=1500, batch=2048, lr=1e-2, ema=0.99),
        Network(Scalar(), CEM()),
        Normal(),
        One(),
        Power(2),
        0,
    )
    losses = [p.loss for p in t.run()]
    assert float(t.weights()["net.a"]) == pytest.approx(1 / math.sqrt(2), abs=3e-3)
    assert losses[-1] == pytest.approx(0.5, abs=0.02)  # the irreducible part, E Var(x0|x) = 1/2


def test_a_step_is_adam_on_the_plain_loss():
    """The flat, chunked, fused loop does what torch's plain Adam does parameter by parameter."""
    t = training(steps=12, batch=64, lr=1e-2, warmup=0, rate=Cosine(1.0), ema=0.0, log_every=5)
    torch.manual_seed(0)
    net = MLPTanh((2,), width=16, depth=2)
    adam = torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.9, 0.99))
    g = generator(0, DATA, 0)
    n = t.batches.chunk * 64
    x0 = Normal().sample(n, g)
    sigma = VE(sigma_min=0.1, sigma_max=10.0).draw(n, g)
    eps = torch.randn(x0.shape, generator=g, dtype=torch.float64)
    for k in range(12):
        rows = slice(64 * k, 64 * k + 64)
        x, noise, target, weight = (
            v.float() for v in loss.batch(CEM(), Power(2), x0[rows], sigma[rows], eps[rows])
        )
        adam.zero_grad()
        (weight[:, None] * (net(x, noise) - target).square()).mean().backward()
        adam.step()
    list(t.run())
    for name, value in net.named_parameters():
        torch.testing.assert_close(t.weights()[f"net.{name}"], value.detach(), rtol=1e-4, atol=1e-6)


def test_pooled_targets_keep_the_mean_and_lose_variance():
    """N(0, I), sigma = 1: E[x0|x] = x/2, Var = 1/2 a coordinate. Pooled targets regress on x with
    slope 1/2 and far less scatter."""
    g = generator(11)
    x0, eps = (torch.randn(2**17, 2, generator=g, dtype=torch.float64) for _ in range(2))
    sigma = torch.ones(len(x0), dtype=torch.float64)
    mean, residual = loss.pool(x0, sigma, eps, 64)
    x = x0 + eps
    torch.testing.assert_close(mean + residual, x)
    slope = float((x * mean).sum() / x.square().sum())
    scatter = float((mean - x / 2).square().mean())
    # groups are independent, rows are not
    assert slope == pytest.approx(0.5, abs=4 * math.sqrt(scatter / 2 / x.numel() * 64))
    assert scatter < 0.05
    two = loss.pool(torch.tensor([[0.0], [1.0]]), torch.tensor([0.5, 0.5]), torch.zeros(2, 1), 2)[0]
    w = 1 / (1 + math.exp(-2.0))  # softmax of 0 and -1/(2*.25)
    torch.testing.assert_close(two, torch.tensor([[1 - w], [w]]))
    # images are single, their levels double
    single = loss.pool(x0[:128].float(), sigma[:128], eps[:128].float(), 64)[0]
    torch.testing.assert_close(single, mean[:128], rtol=1e-6, atol=1e-6)


def test_rate_and_average():
    trainer = Trainer(steps=1000, rate=Cosine(0.1), warmup=9)
    assert trainer.share(0) == pytest.approx(0.1) and trainer.share(4) == pytest.approx(
        0.5, rel=1e-4
    )
    assert trainer.share(500) == pytest.approx(0.55) and trainer.share(1000) == pytest.approx(0.1)
    assert Trainer(steps=1000, rate=Geometric(1e-4), warmup=0).share(500) == pytest.approx(1e-2)
    t = training(steps=3, batch=8, ema=0.5, log_every=1, lr=0.1)
    expected = t.flat.values.clone()
    for k, _ in enumerate(t.run()):
        expected += (t.flat.values - expected) * (1 - min(0.5, (1 + k) / (10 + k)))
        torch.testing.assert_close(t.average, expected)
    torch.testing.assert_close(
        torch.cat([t.weights()[n].flatten() for n in t.flat.names]), expected
    )


def test_clipping_bounds_the_gradient():
    t = training(steps=1, batch=8, clip=1e-3, lr=1e-9)
    list(t.run())
    assert float(t.flat.grad.norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("stop, muon", [(1, 0.0), (7, 0.02), (40, 0.0), (59, 0.02)])
def test_resumed_training_repeats_the_undisturbed_one_to_the_byte(tmp_path, stop, muon):
    # 16 batches a chunk: stops fall inside chunks too
    options = dict(steps=60, batch=4096, log_every=1, ema=0.9, muon=muon)
    whole = training(**options)
    list(whole.run())
    first = training(**options)
    for progress in first.run():
        if progress.step == stop:
            break
    save_state(tmp_path, first.state(), stop, first.weights(), 1.0, 2.0)
    second = training(seed=0, **options)
    state, step, clock = load_state(tmp_path, "cpu")
    second.restore(state, step)
    list(second.run())
    assert step == stop and clock["training_cpu_s"] == 1.0
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.state().values(), second.state().values(), strict=True)
    )


def test_seeds_give_different_batches_and_the_same_seed_the_same():
    a = training(seed=0)
    b = training(seed=0)
    c = training(seed=1)
    assert torch.equal(a.batches(3)[0], b.batches(3)[0])
    assert not torch.equal(a.batches(3)[0], c.batches(3)[0]) and not torch.equal(
        a.batches(3)[0], a.batches(4)[0]
    )


def test_a_nan_stops_early():
    t = training(steps=1000, batch=64, lr=1e30, log_every=10, warmup=0, parameterization=Epsilon())
    with pytest.raises(DiffgeoError, match="the loss became"):
        list(t.run())
    assert t.step <= 20


def test_flat_views_share_memory():
    net = MLPTanh((2,), width=4, depth=1)
    flat = Flat(net)
    flat.values.fill_(0.5)
    assert all(bool((p == 0.5).all()) for p in net.parameters())
    net(torch.ones(3, 2), torch.ones(3)).sum().backward()
    assert float(flat.grad.abs().sum()) > 0
    named = flat.named(torch.zeros_like(flat.values))
    assert set(named) == set(net.state_dict()) and all(
        float(v.abs().sum()) == 0 for v in named.values()
    )


@pytest.mark.parametrize(
    "option", ["steps=0", "lr=-1", "lr=0", "batch=0", "ema=1.5", "muon=-0.1", "log_every=0"]
)
def test_options_out_of_range(option):
    name, value = option.split("=")
    with pytest.raises(UsageError, match=f"trainer.{name}="):
        Trainer(**{name: float(value)})
    with pytest.raises(UsageError, match="precision"):
        Trainer(precision="fp8")


def test_damaged_or_foreign_checkpoints_are_one_clear_error(tmp_path):
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"a": torch.ones(300)})
    with pytest.raises(DiffgeoError, match="another network"):
        load_weights(path, torch.nn.Linear(2, 2))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DiffgeoError, match="damaged"):
        load_tensors(path)
    with pytest.raises(DiffgeoError, match="does not exist"):
        load_tensors(tmp_path / "none" / "model.safetensors")
    t = training(steps=5)
    with pytest.raises(DiffgeoError, match="another network or to a longer"):
        t.restore({"values": torch.zeros(3)}, 1)
    with pytest.raises(DiffgeoError, match="another network or to a longer"):
        t.restore(t.state(), 6)


def test_paper_times_stop_at_the_fiftieth_part():
    """t_min of the paper's training draw is 10/199 = .0503 (cem.md A4)."""
    from diffgeo.schedule.spacing import UniformTimes

    ou = OU(training=UniformTimes(200))
    t = ou.t(ou.draw(20_000, generator(0)))
    assert float(t.min()) == pytest.approx(10 / 199) and float(t.max()) == pytest.approx(10.0)
