"""The blur of a network, fitted: an exact blurred denoiser in its place gives its own s back."""

import statistics
from types import SimpleNamespace

import pytest
import torch

from diffgeo.core import Run, generator
from diffgeo.data import Ambient, Blurred, Circle, Line, Points, image_set
from diffgeo.errors import UsageError
from diffgeo.metrics import Blur


def run_of(denoise, seed=0, exact=False) -> Run:
    simulation = SimpleNamespace(denoise=denoise, device="cpu")
    return Run(torch.zeros(1, 2), seed=seed, simulation=simulation, exact=exact)


@pytest.mark.parametrize("s", [0.003, 0.05, 0.3])
@pytest.mark.parametrize(
    "law", [Circle(), Line(), Points([[1.0, 0.0], [-1.0, 0.0]]), Ambient(Circle(2.0), 6)]
)
def test_an_exact_blurred_denoiser_gives_its_own_blur_back(law, s):
    values = Blur()(run_of(Blurred(law, s).denoiser()), law)
    assert values["blur/s"] == pytest.approx(s, rel=1e-4)
    assert values["blur/explained"] == pytest.approx(1, abs=1e-8)
    assert values["blur/rms"] < 1e-4 * values["blur/rms_law"]


def test_the_law_itself_has_no_blur():
    law = Circle()
    values = Blur()(run_of(law.denoiser()), law)
    assert (values["blur/s"], values["blur/s_se"], values["blur/explained"]) == (0, 0, 0)
    assert values["blur/rms"] < 1e-15
    assert Blur()(run_of(law.denoiser(), exact=True), law) == {} == Blur()(Run(torch.zeros(1)), law)
    digits = image_set("digits")
    assert Blur()(run_of(digits.denoiser()), digits) == {}


def test_an_error_of_another_kind_is_not_explained_and_the_spread_is_that_of_draws():
    """epsilon of the blurred law plus .3 of noise: the fit is right on average, its standard error
    is the deviation over seeds, and what is left is the noise."""
    law = Circle()
    blurred = Blurred(law, 0.05).denoiser()

    def noisy(x, sigma):
        z = torch.randn(x.shape, generator=generator(int(1e9 * float(x[0, 0]))), dtype=x.dtype)
        return blurred(x, sigma) + 0.3 * sigma[:, None] * z

    found = [Blur()(run_of(noisy, seed), law) for seed in range(20)]
    fits = [values["blur/s"] for values in found]
    errors = [values["blur/s_se"] for values in found]
    deviation = statistics.stdev(fits)
    assert statistics.mean(fits) == pytest.approx(0.05, abs=4 * deviation / 20**0.5)
    assert statistics.mean(errors) == pytest.approx(deviation, rel=0.5)
    assert statistics.mean(v["blur/rms"] for v in found) == pytest.approx(0.3, rel=0.02)


def test_bad_numbers():
    for options in ({"n": 4}, {"levels": 1}, {"lowest": 0.0}, {"groups": 1}):
        with pytest.raises(UsageError, match="write 2 or more groups"):
            Blur(**options)
    with pytest.raises(UsageError, match="highest=0.001 must be above lowest=0.002"):
        Blur(highest=0.001)(run_of(Blurred(Circle(), 0.1).denoiser()), Circle())
