"""The networks: their formulas by hand, the kernel of the features, and what they can fit."""

import math

import pytest
import torch

from diffgeo.errors import UsageError
from diffgeo.nn import MLP, Fourier, MLPTanh, Sinusoidal


def plain(h, weight, bias):
    """The residual stack by hand."""
    for w, b in zip(weight, bias, strict=True):
        a = h @ w + b
        h = h + a * torch.sigmoid(a)
    return h


def test_fourier_features_have_the_bandwidth_asked_for():
    """E phi(v).phi(v')/count = exp(-bandwidth^2 |v-v'|^2/2): the Gaussian kernel (Rahimi and Recht
    2007)."""
    torch.manual_seed(0)
    phi = Fourier(2, 200_000, 1.5)
    count = 200_000
    v = torch.tensor([[0.3, -0.2], [0.8, 0.1]])
    a, b = phi(v)
    assert a @ a / count == pytest.approx(1, abs=1e-5)
    assert a @ b / count == pytest.approx(math.exp(-(1.5**2) * 0.34 / 2), abs=4 / math.sqrt(count))


def test_mlp_formula():
    torch.manual_seed(0)
    net = MLP((2,), width=8, depth=2, features=3, noise_features=2).double()
    x = torch.randn(5, 2).double()
    noise = torch.randn(5).double()
    angle = x @ net.point.frequencies
    level = noise[:, None] @ net.level.frequencies
    z = torch.cat([x, angle.sin(), angle.cos(), noise[:, None], level.sin(), level.cos()], 1)
    h = plain(z @ net.inp.weight.T + net.inp.bias, net.weight, net.bias)
    torch.testing.assert_close(
        net(x, noise), h @ net.out.weight.T + net.out.bias, rtol=1e-12, atol=1e-12
    )


def test_mlp_tanh_is_the_papers_network():
    """3 x 64, tanh, 3 -> 64 -> 64 -> 64 -> 2: 8 706 weights, and the formula by hand."""
    torch.manual_seed(0)
    net = MLPTanh((2,)).double()
    x = torch.randn(5, 2).double()
    t = torch.rand(5).double() * 10
    assert sum(p.numel() for p in net.parameters()) == (3 * 64 + 64) + 2 * (64 * 64 + 64) + (
        64 * 2 + 2
    )
    h = torch.cat([x, t[:, None]], 1)
    *hidden, last = [layer for layer in net.stack if isinstance(layer, torch.nn.Linear)]
    for layer in hidden:
        h = torch.tanh(h @ layer.weight.T + layer.bias)
    torch.testing.assert_close(net(x, t), h @ last.weight.T + last.bias)


@pytest.mark.parametrize("kind", [MLP, MLPTanh])
def test_any_shape_and_rows_are_independent(kind):
    torch.manual_seed(0)
    net = kind((3, 2)).double()
    x = torch.randn(6, 3, 2).double()
    noise = torch.randn(6).double()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    alone = torch.cat([net(x[i : i + 1], noise[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(net(x, noise), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [MLP, MLPTanh])
def test_empty_networks_are_refused(kind):
    with pytest.raises(UsageError, match="net.depth=0|depth=0"):
        kind((2,), depth=0)


def test_mlp_learns_a_function_finer_than_a_plain_network_does():
    """sin(12 x1) on [-1,1]^2, 300 Adam steps: the features bring the bandwidth, the papers' network
    stays at the mean (spectral bias)."""
    error = {}
    for kind in (MLP, MLPTanh):
        torch.manual_seed(0)
        net = kind((2,))
        x = 2 * torch.rand(256, 2) - 1
        y = torch.sin(12 * x)
        noise = torch.zeros(256)
        adam = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(300):
            loss = (net(x, noise) - y).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        error[kind] = loss.item()
    assert error[MLP] < 1e-3 < 0.05 < error[MLPTanh]


@pytest.mark.parametrize("features", [Fourier(1, 32, 4.0), Sinusoidal(32)])
def test_autocast_keeps_noise_levels_apart(features):
    """2000 levels of log(sigma)/4 stay 2000: bf16 angles merge neighbours, 975 are left of
    Fourier's. In full as without autocast."""
    levels = torch.linspace(-1.6, 1.1, 2000)[:, None]
    with torch.autocast("cpu", torch.bfloat16):
        seen = features(levels)
    assert seen.dtype == torch.float32 and len(seen.unique(dim=0)) == 2000
    assert torch.equal(seen, features(levels))
    points = Fourier(3, 8, 1.0)
    x = torch.randn(50, 3)
    angle = x @ points.frequencies
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(points(x), torch.cat([angle.sin(), angle.cos()], -1))
