"""What the exponential schedule (41) is the minimizer of, and what not: every printed number, and
no grid that is better."""

import csv
import json
import math

import pytest
import torch

from diffgeo.core import generator
from diffgeo.errors import UsageError
from diffgeo.schedule import OU
from diffgeo.theory.schedules import (
    BALANCED,
    EXPONENTIAL,
    LINEAR,
    LINEAR_FROM,
    QUADRATIC,
    cost,
    downwards,
    grids,
)

# latent.md, B7: T = 10, t_1 = 1e-4
MAX = {200: 0.056212, 50: 0.209396}
BEST_SCALED = {200: 0.094323, 50: 0.356636}
ITS_SCALED = {200: 0.562147, 50: 2.094052}


@pytest.mark.parametrize("N", [50, 200])
def test_the_printed_numbers(N):
    found = grids(1e-4, 10.0, N)
    its = found[EXPONENTIAL]
    assert its.ratio_max == pytest.approx(MAX[N], abs=5e-7)
    assert its.ratio_max == pytest.approx(1 - (1e-4 / 10) ** (1 / (N - 1)), rel=1e-12)
    # those with a first time of their own: (2 - 1)/2 and (4 - 1)/4
    assert found[LINEAR].ratio_max == pytest.approx(0.5, rel=1e-12)
    assert found[QUADRATIC].ratio_max == pytest.approx(0.75, rel=1e-12)
    assert found[BALANCED].scaled_max == pytest.approx(BEST_SCALED[N], abs=5e-7)
    assert its.scaled_max == pytest.approx(ITS_SCALED[N], abs=5e-7)
    assert its.worst == 10
    if N == 200:
        assert its.ratio_sum == pytest.approx(11.186, abs=5e-4)
        assert found[LINEAR_FROM].ratio_sum == pytest.approx(5.870, abs=5e-4)
    for one in found.values():
        assert len(one.times) == N and len(one.ratios) == N - 1 and float(one.times[-1]) == 10
    # (41) is the grid of diffgeo's own schedule, without its step to 0
    sigmas = OU(to_zero=False).grid(N - 1).flip(0)
    torch.testing.assert_close(OU().sigma(its.times), sigmas, rtol=1e-11, atol=0)


def test_no_other_grid_is_better_at_its_best_or_worse_in_its_sum():
    """Of 2000 grids with the same ends, near and far: the largest relative step is larger than that
    of (41), the sum of them smaller, and the largest scaled step larger than that of the grid on
    which all are equal."""
    t_1, T, N = 1e-3, 4.0, 12
    found = grids(t_1, T, N)
    draws = generator(0, *b"grids")
    for trial in range(2000):
        base = found[(EXPONENTIAL, BALANCED, LINEAR_FROM)[trial % 3]].times
        spread = 10 ** (-3 * torch.rand((), generator=draws, dtype=torch.float64))
        weights = base.diff() * torch.exp(
            spread * torch.randn(N - 1, generator=draws, dtype=torch.float64)
        )
        inner = t_1 + (T - t_1) * torch.cumsum(weights, 0) / weights.sum()
        other = cost(torch.cat([base[:1], inner]))
        assert other.ratio_max > found[EXPONENTIAL].ratio_max
        assert other.ratio_sum < found[EXPONENTIAL].ratio_sum
        assert other.scaled_max > found[BALANCED].scaled_max * (1 - 1e-12)


def test_the_grid_of_equal_scaled_steps_is_one_and_is_least():
    found = grids(1e-4, 10.0, 50)[BALANCED]
    torch.testing.assert_close(
        found.scaled, found.scaled[:1].expand_as(found.scaled), rtol=1e-9, atol=0
    )
    c = float(found.scaled[-1])
    assert downwards(10.0, 50, c * (1 + 1e-9)) < 1e-4 < downwards(10.0, 50, c * (1 - 1e-9))


@pytest.mark.parametrize(
    "t_1, T, N, says",
    [
        (0.0, 10.0, 50, "t_1=0 T=10: write two times"),
        (20.0, 10.0, 50, "t_1=20 T=10: write two times"),
        (1e-4, math.inf, 50, "T=inf: write two times"),
        (1e-4, 10.0, 2, "points=2: write 3 or more"),
        (1e-4, 1000.0, 10, "points=10: .* larger than the scale .*write more points"),
    ],
)
def test_no_grids(t_1, T, N, says):
    with pytest.raises(UsageError, match=says):
        grids(t_1, T, N)


def test_the_command(inside, tmp_path):
    done = inside("theory", "schedules", "points=50", "hydra.run.dir=run")
    assert done.returncode == 0 and "| 50 | exponential (41)" in done.stdout
    values = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert values["schedules/ratio_max/exponential (41)@50"] == pytest.approx(MAX[50], abs=5e-7)
    with (tmp_path / "run" / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 5 * 50
    own = [row for row in table if row["schedule"] == EXPONENTIAL]
    assert own[0]["relative_step"] == "" and float(own[0]["t"]) == pytest.approx(1e-4, rel=1e-12)
    assert float(own[-1]["sigma"]) == pytest.approx(math.sqrt(math.expm1(10)), rel=1e-12)
    assert (tmp_path / "run" / "figures" / "schedules.png").stat().st_size > 10_000
