"""Muon's orthogonal factor against the SVD, and its step against the formula."""

import pytest
import torch

from diffgeo.training.optim import Muon, polar


@pytest.mark.parametrize("shape", [(64, 64), (64, 83), (83, 64), (3, 16, 16), (2, 5, 9)])
def test_polar_is_the_orthogonal_factor_of_the_svd(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, v = torch.linalg.svd(g, full_matrices=False)
    g = u @ torch.diag(torch.linspace(0.05, 1, s.shape[-1], dtype=torch.float64)) @ v
    got = polar(1e-6 * g)  # the scale does not matter
    assert (u.mT @ got @ v.mT - torch.eye(min(shape[-2:]), dtype=torch.float64)).abs().max() < 0.13


def test_polar_lifts_small_singular_values():
    """From .01 to 1 before, from .87 to 1.13 after: that is what Muon does that Adam does not."""
    g = torch.Generator().manual_seed(0)
    u, v = (
        torch.linalg.qr(torch.randn(64, 64, generator=g, dtype=torch.float64))[0] for _ in range(2)
    )
    values = torch.linalg.svdvals(
        polar(u @ torch.diag(torch.logspace(-2, 0, 64, dtype=torch.float64)) @ v)
    )
    assert 0.87 < values.min() and values.max() < 1.13


def test_polar_of_zero_is_zero():
    assert not polar(torch.zeros(4, 4)).any()


def test_muon_steps_along_the_polar_factor_of_nesterov_momentum():
    """Two steps with gradients G1, G2: M = (1-mu) G1, then mu M + (1-mu) G2, and each step looks
    one momentum ahead."""
    g = torch.Generator().manual_seed(0)
    w, g1, g2 = (torch.randn(5, 5, generator=g, dtype=torch.float64) for _ in range(3))
    leaf = w.clone().requires_grad_()
    mu = 0.9
    lr = 0.1
    muon = Muon([leaf], mu)
    for gradient in (g1, g2):
        leaf.grad = gradient.clone()
        muon.step(lr)
        assert not leaf.grad.any()
    m1 = (1 - mu) * g1
    m2 = mu * m1 + (1 - mu) * g2
    want = w - lr * polar(mu * m1 + (1 - mu) * g1) - lr * polar(mu * m2 + (1 - mu) * g2)
    torch.testing.assert_close(leaf.detach(), want)


def test_muon_solves_an_ill_conditioned_regression_that_adam_does_not():
    """|A X B - C|^2 with cond A = cond B = 30, 300 steps, rates decaying to zero: Muon ends well
    below Adam at its best rate."""
    g = torch.Generator().manual_seed(0)
    orthogonal = lambda: torch.linalg.qr(torch.randn(16, 16, generator=g))[0]
    a, b = (orthogonal() @ torch.diag(torch.logspace(-1.5, 0, 16)) @ orthogonal() for _ in range(2))
    target = a @ torch.randn(16, 16, generator=g) @ b

    def final(step):
        x = torch.zeros(16, 16, requires_grad=True)
        advance = step(x)
        for k in range(300):
            x.grad = None
            loss = (a @ x @ b - target).square().mean()
            loss.backward()
            advance(1 - k / 300)
        return loss.item()

    def muon(x):
        method = Muon([x])
        return lambda rate: method.step(0.1 * rate)

    def adam(lr):
        def start(x):
            method = torch.optim.Adam([x], lr)

            def advance(rate):
                method.param_groups[0]["lr"] = lr * rate
                method.step()

            return advance

        return start

    assert final(muon) < 0.5 * min(final(adam(lr)) for lr in (0.01, 0.03, 0.1, 0.3))
