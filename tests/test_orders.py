"""Every sampler of conf/sampler has the order that it declares, by the measurement that `diffgeo
theory orders` prints."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffgeo.config.line import conf_dir
from diffgeo.config.named import names, sampler
from diffgeo.sampler import DDPM, Euler, Heun, IPNDMv
from diffgeo.theory.orders import (
    COUNTS,
    FLOWS,
    KARRAS,
    LOG,
    correlated_gaussian,
    exact_flow,
    measure,
    slope,
    unit_circle,
    weak_errors,
)


def documented():
    """The table of docs/samplers.md, by name: the cells after it, in the columns of `diffgeo theory
    orders`."""
    page = (conf_dir().parent / "docs" / "samplers.md").read_text()
    table = page[page.index("| declared |") :].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {name.strip("`"): cells for name, *cells in rows}


TABLE = documented()


@pytest.mark.parametrize("name", names("sampler"))
def test_declared_order(name):
    """Of every sampler of conf/sampler; an adaptive one keeps its tolerance instead. What the
    documentation says of it is what is measured."""
    method = sampler(name)
    found = measure(method)
    if method.adaptive:
        keeps_its_tolerance(method, found)
    else:
        assert found.slopes and min(found.slopes.values()) > found.order - 0.2, found
    if found.order == 0:  # a bias that more steps do not remove: it is there, and small
        assert max(found.slopes.values()) < 0.2 and max(found.errors.values()) < 0.25, found
    if name in TABLE:
        is_documented(TABLE[name], found)


def keeps_its_tolerance(loose, coarse):
    """In one integration the error is below the tolerance, and follows it: a thousand times
    tighter, at least ten times smaller."""
    tight = replace(loose, rtol=1e-6, atol=1e-6)
    fine = measure(tight)
    for problem in FLOWS:
        assert coarse.errors[problem] < loose.rtol and fine.errors[problem] < tight.rtol
        assert coarse.errors[problem] > 10 * fine.errors[problem]
    assert not coarse.slopes and 40 < coarse.nfe < fine.nfe < 1000


def is_documented(cells, found):
    """Order, evaluations and slopes as the table has them, to its last digit."""
    declared, evaluations, *measured = cells
    assert (declared, evaluations.split()[0]) == (str(found.order), f"{found.nfe:.3g}")
    shown = dict(zip([*FLOWS, "law, log"], measured, strict=True))
    if not found.slopes:
        return
    assert {column for column, cell in shown.items() if cell} == set(found.slopes)
    for column, slope_ in found.slopes.items():
        assert float(shown[column]) == pytest.approx(slope_, abs=0.011), column


def test_the_published_weights_of_ipndm_v_have_lost_their_order():
    errors = [
        correlated_gaussian().error(IPNDMv(4, weights="legacy"), KARRAS.grid(n)) for n in COUNTS
    ]
    exact = [
        correlated_gaussian().error(IPNDMv(4, weights="exact"), KARRAS.grid(n)) for n in COUNTS
    ]
    assert (
        slope(COUNTS, errors) < 2.2 and slope(COUNTS, exact) > 3.8 and errors[-1] > 500 * exact[-1]
    )


def test_the_exact_flow_of_a_gaussian_is_its_closed_form():
    """Each eigendirection moves by sqrt((lam + sigma^2)/(lam + sigma_0^2))."""
    eigenvalues = torch.tensor([4.0, 1.0, 0.05], dtype=torch.float64)
    problem = correlated_gaussian()
    basis = torch.linalg.qr(
        torch.tensor([[1.0, 2, -1], [0.5, -1, 3], [2, 1, 1]], dtype=torch.float64)
    ).Q
    gain = torch.sqrt((eigenvalues + problem.last**2) / (eigenvalues + problem.first**2))
    torch.testing.assert_close(
        problem.end, (problem.x @ basis * gain) @ basis.T, rtol=1e-10, atol=1e-12
    )


def test_the_exact_flow_of_the_circle_keeps_its_quantile():
    """The flow is radial and carries the law at 20 to the law at .02, so |x| keeps its rank; |u +
    sigma z| has Rice's distribution."""
    from scipy.stats import rice

    problem = unit_circle()
    before = problem.x.norm(dim=1).numpy() / 20
    after = problem.end.norm(dim=1).numpy() / 0.02
    np.testing.assert_allclose(rice(1 / 0.02).cdf(after), rice(1 / 20).cdf(before), atol=1e-7)
    torch.testing.assert_close(
        problem.end / problem.end.norm(dim=1, keepdim=True),
        problem.x / problem.x.norm(dim=1, keepdim=True),
    )


def test_a_flow_in_two_parts_is_the_flow():
    problem = unit_circle()
    whole = exact_flow(problem.denoise, problem.x, [20.0, 1.0, 0.02])
    torch.testing.assert_close(whole[-1], problem.end, rtol=1e-9, atol=1e-9)


def test_a_wrong_weight_is_caught():
    """The measurement itself can fail: Heun with .51 and .49 for its halves is of order 1, DDPM
    with a little too much noise of order 0."""

    class Lame(Heun):
        def step(self, denoise, x, sigma, sigma_next, history, noise):
            good = super().step(denoise, x, sigma, sigma_next, history, noise)
            plain = Euler().step(denoise, x, sigma, sigma_next, [], None)
            return good._replace(x=0.98 * good.x + 0.02 * plain.x)

    class Loud(DDPM):
        def step(self, denoise, x, sigma, sigma_next, history, noise):
            return super().step(denoise, x, sigma, sigma_next, history, lambda: 1.1 * noise())

    assert slope(COUNTS, [correlated_gaussian().error(Lame(), LOG.grid(n)) for n in COUNTS]) < 1.3
    assert slope(COUNTS, [weak_errors(Loud(), LOG.grid(n))[1] for n in COUNTS]) < 0.3


def test_the_documentation_names_samplers_that_there_are_and_every_schedule():
    page = (conf_dir().parent / "docs" / "samplers.md").read_text()
    assert len(TABLE) > 40 and set(TABLE) <= set(names("sampler"))
    for path in (conf_dir() / "schedule").glob("*.yaml"):
        assert re.search(rf"[` ]{path.stem}[` ,]", page), path.stem
