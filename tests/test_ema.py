"""Moving averages of weights against their closed forms and the published widths."""

import numpy as np
import pytest
import torch

from diffgeo.errors import UsageError
from diffgeo.training.ema import Constant, Power
from diffgeo.training.trainer import Trainer


def averaged(rule, values: np.ndarray) -> np.ndarray:
    """The average after every step, by the recursion of the training loop."""
    average = values[0] * 0.0
    out = []
    for k, v in enumerate(values[1:]):
        average = average + (1 - rule(k)) * (v - average)
        out.append(average)
    return np.array(out)


# Karras et al. 2024, section 3.2
@pytest.mark.parametrize("std, gamma", [(0.05, 16.97), (0.10, 6.94)])
def test_published_exponents(std, gamma):
    assert Power(std).gamma == pytest.approx(gamma, abs=5e-3)


@pytest.mark.parametrize("std", [0.05, 0.15, 0.25])
def test_the_power_profile_has_the_width_that_it_is_named_after(std):
    """Weights of step s in the average of step t: prod of betas. Their profile is s^gamma, of
    standard deviation std t."""
    t = 1500
    weight = averaged(Power(std), np.vstack([np.zeros(t), np.eye(t)]))[-1]
    s = (np.arange(t) + 1) / t
    assert weight.sum() == pytest.approx(1, rel=1e-12)
    mean = weight @ s
    assert np.sqrt(weight @ (s - mean) ** 2) == pytest.approx(std, rel=5e-3)
    gamma = Power(std).gamma
    assert weight[t // 2] / weight[-1] == pytest.approx(s[t // 2] ** gamma, rel=0.01)


def test_the_first_average_is_the_first_weights_and_a_constant_rule_forgets_the_start():
    assert Power(0.1)(0) == 0.0
    assert [Constant(0.5)(k) for k in (0, 3, 1000)] == [0.1, 4 / 13, 0.5]
    assert Constant(0.999)(10**6) == 0.999


def test_a_trainer_takes_a_number_or_a_rule():
    assert (
        Trainer(ema=0.9).decay(10**6) == 0.9
        and Trainer(ema=Power(0.1)).decay(0) == 0.0
        and Trainer(ema=0.0).decay is None
    )


@pytest.mark.parametrize("std", [0.0, -0.1, 0.3])
def test_widths_out_of_range(std):
    with pytest.raises(UsageError, match="trainer.ema.std="):
        Power(std)


def test_the_loop_keeps_the_power_average():
    from test_train import training

    t = training(steps=6, batch=8, ema=Power(0.1), log_every=1, lr=0.1)
    seen = [t.flat.values.clone() for _ in t.run()]
    weight = torch.tensor([1.0])
    for k in range(1, 6):
        beta = Power(0.1)(k)
        weight = torch.cat([weight * beta, torch.tensor([1 - beta])])
    torch.testing.assert_close(t.average, (weight[:, None] * torch.stack(seen)).sum(0))
