"""`operator=`, `y=` and `sigma_n=` of a command: the law is conditioned, and what is drawn of its
exact denoiser has the posterior's moments under any sampler; half a measurement is refused."""

import pytest
from configs import composed

from diffgeo.config.build import assemble
from diffgeo.core import ImageSet, Uneven
from diffgeo.data import Gaussian, Mixture
from diffgeo.denoiser import is_own
from diffgeo.errors import UsageError
from diffgeo.report.finish import of_posterior

MEASURED = ("operator=matrix", "operator.entries=[[1,.5]]", "y=[1.2]", "sigma_n=.4")


def experiment(*words: str):
    fixed = ("model=exact", "metrics=none", "figures=false", "device=cpu", "n=4000")
    return assemble(composed("sample", *fixed, *words))


@pytest.mark.parametrize("sampler", ["unipc", "sa_solver"])
def test_draws_have_the_moments_of_the_posterior(sampler, capsys):
    found = experiment("data=mixture", f"sampler={sampler}", "sampler.steps=40", *MEASURED)
    law = found.data
    assert isinstance(law, Mixture) and is_own(found.model, law)
    assert "posterior: log p(y) = -1.3467 nats" in capsys.readouterr().out
    assert of_posterior(law) == {"posterior/log_evidence": law.log_evidence}
    x = found.simulation.draw(found.numbers).samples
    standard = (x.var(0) / len(x)).sqrt()
    # 40 steps leave less of a bias than 4000 draws see
    assert ((x.mean(0) - law.mean).abs() / standard).max() < 4.5
    square = (x - law.mean).square().sum(1)
    assert abs(float(square.mean()) - 2 * law.std**2) < 4.5 * float(square.std()) / 4000**0.5


def test_a_measurement_of_images_weighs_them(capsys):
    y = "y=[[[.5,.5],[-.5,.5]]]"
    found = experiment("data=digits", "operator=pool", "operator.factor=4", y, "sigma_n=.3")
    assert isinstance(found.data, ImageSet) and isinstance(found.data, Uneven)
    assert is_own(found.model, found.data)
    assert "effective sample size of its atoms" in capsys.readouterr().out
    assert of_posterior(found.data)["posterior/ess"] == found.data.ess >= 1


def test_without_a_measurement_the_law_is_the_law():
    found = experiment("data=gaussian")
    assert isinstance(found.data, Gaussian) and of_posterior(found.data) == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (MEASURED[:2], "operator= is a part of a measurement"),
        (("y=[1.2]", "sigma_n=.4"), "y= is a part of a measurement"),
        (
            (*MEASURED[:2], "y=[1,2]", "sigma_n=.4"),
            r"has shape \[2\], and operator= measures \[1\]",
        ),
        ((*MEASURED[:2], "y=[a]", "sigma_n=.4"), r"write numbers, as y=\[1.2\], or FILE.npy"),
        ((*MEASURED[:2], "y=true", "sigma_n=.4"), r"write numbers, as y=\[1.2\], or FILE.npy"),
        ((*MEASURED[:3], "sigma_n=-1"), "sigma_n=-1: the noise is 0 or more"),
        ((*MEASURED[:3], "sigma_n=abc"), "sigma_n=abc"),
        ((*MEASURED, "model=cem"), "a network knows none: write model=exact"),
    ],
)
def test_half_a_measurement_is_refused(words, said):
    with pytest.raises(UsageError, match=said):
        experiment("data=mixture", *words)
