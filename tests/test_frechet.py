"""The Frechet distance against closed forms, mpmath, scipy and torch-fidelity; streamed moments
against numpy."""

import math

import numpy as np
import pytest
import torch

from diffgeo.core import generator
from diffgeo.errors import DiffgeoError
from diffgeo.metrics.frechet import Moments, Stream, between, frechet, moments

f64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed, *b"test"), dtype=f64)


def covariance(d, seed=0):
    a = normal(d, d + 5, seed=seed)
    return a @ a.mT / d


def rotation(d, seed=0):
    return torch.linalg.qr(normal(d, d, seed=seed))[0]


def test_commuting_gaussians_have_a_closed_form():
    """S1 = Q diag(a) Q^T, S2 = Q diag(b) Q^T: F = |m1 - m2|^2 + sum (sqrt a - sqrt b)^2."""
    q = rotation(30)
    a = normal(30, seed=1).exp()
    b = normal(30, seed=2).exp()
    m1 = normal(30, seed=3)
    m2 = normal(30, seed=4)
    exact = (m1 - m2).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert frechet(m1, q * a @ q.mT, m2, q * b @ q.mT) == pytest.approx(float(exact), rel=1e-12)


def test_general_gaussians_against_mpmath():
    import mpmath

    mpmath.mp.dps = 40
    s1 = covariance(5, 1)
    s2 = covariance(5, 2)
    root = mpmath.sqrtm(mpmath.matrix(s1.tolist()) * mpmath.matrix(s2.tolist()))
    exact = s1.trace() + s2.trace() - 2 * float(sum(mpmath.re(root[i, i]) for i in range(5)))
    assert frechet(torch.zeros(5), s1, torch.zeros(5), s2) == pytest.approx(float(exact), rel=1e-13)


def test_against_scipy_sqrtm_and_torch_fidelity():
    from scipy.linalg import sqrtm
    from torch_fidelity.metric_fid import (
        KEY_METRIC_FID,
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )

    x = (normal(600, 64) @ normal(64, 64, seed=1) / 8).float()
    y = (normal(500, 64, seed=2) @ normal(64, 64, seed=3) / 8 + 0.1).float()
    stats = [fid_features_to_statistics(z) for z in (x, y)]
    value = between(moments(x), moments(y))
    # its mean is float32
    assert value == pytest.approx(
        fid_statistics_to_metric(*stats, verbose=False)[KEY_METRIC_FID], rel=1e-7
    )
    root = sqrtm(stats[0]["sigma"] @ stats[1]["sigma"]).real
    shift = float((x.double().mean(0) - y.double().mean(0)).square().sum())
    assert value == pytest.approx(
        shift + np.trace(stats[0]["sigma"] + stats[1]["sigma"] - 2 * root), rel=1e-9
    )


@pytest.mark.parametrize("n1, n2", [(20, 500), (500, 20), (20, 30)])
def test_fewer_points_than_features(n1, n2):
    """Singular covariances: tr (S1 S2)^(1/2) is the sum of the singular values of X1 X2^T, X_i
    centred over sqrt(n_i - 1)."""
    x = normal(n1, 64)
    y = normal(n2, 64, seed=1) * 1.3
    a, b = ((z - z.mean(0)) / math.sqrt(len(z) - 1) for z in (x, y))
    exact = (
        (x.mean(0) - y.mean(0)).square().sum()
        + a.square().sum()
        + b.square().sum()
        - 2 * torch.linalg.svdvals(a @ b.mT).sum()
    )
    assert between(moments(x), moments(y)) == pytest.approx(float(exact), rel=1e-12)
    # rounding adds up
    assert between(moments(x)._replace(n=None), moments(y)._replace(n=None)) == pytest.approx(
        float(exact), rel=1e-6
    )


def test_point_masses_and_itself():
    zero = torch.zeros(3, 3)
    assert frechet(torch.zeros(3), zero, torch.tensor([1.0, 2.0, 2.0]), zero) == 9
    s = covariance(40)
    assert abs(frechet(normal(40), s, normal(40), s)) < 1e-12 * float(s.trace())


def test_streamed_moments_are_numpys():
    """A mean of 1 000 and a spread of 1: in float32, or without a shift, the covariance would be
    lost."""
    x = 1000 + normal(3000, 7) @ normal(7, 7, seed=1)
    stream = Stream()
    for part in x.split(137):
        stream.add(part)
    m = stream.moments()
    assert m.n == 3000 and m.mean.numpy() == pytest.approx(x.numpy().mean(0), rel=1e-14)
    assert m.covariance.numpy() == pytest.approx(
        np.cov(x.numpy(), rowvar=False), rel=1e-10, abs=1e-12
    )
    assert torch.equal(m.covariance, m.covariance.mT)


def test_bad_input():
    with pytest.raises(DiffgeoError, match="1 points"):
        moments(torch.zeros(1, 3))
    with pytest.raises(DiffgeoError, match="not finite"):
        moments(torch.tensor([[0.0], [math.nan]]))
    with pytest.raises(DiffgeoError, match="of 2 and of 3"):
        between(Moments(torch.zeros(2), torch.eye(2)), Moments(torch.zeros(3), torch.eye(3)))
