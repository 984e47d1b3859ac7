"""The reach theorem in one picture: how far the projection of a noisy point strays, and how far
denoiser and projection are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from diffgeo.plot.canvas import BLUE, SUPPORT, VERMILION, log_axis, sheet

SMALLEST = 1e-6  # a gap below it is off the picture: of a finite set it is 0 but for e^(-1/sigma^2)


def reach(path, columns: Mapping[str, Tensor], limit: float, n: int, d: int) -> None:
    """columns [L] by name, as `theory.reach.columns` has them; limit: the reach, or inf; n, d: the
    dimensions of space and set."""
    sigma = columns["sigma"].numpy()
    with sheet(path, 1, 2, (4.6, 3.6)) as (_, axes):
        left, right = axes[0]
        unit = r"(\sigma\sqrt{d})" if d else r"\sigma"
        label = rf"$|\mathrm{{proj}}(x_\sigma) - x_0|\,/\,{unit}$"
        left.plot(sigma, columns["ratio_mean"], color=BLUE, marker="o", ms=3, label="mean")
        left.plot(sigma, columns["ratio_q99"], color=VERMILION, ls="--", label="99 % below")
        if d:
            left.axhline(1, color=SUPPORT, lw=1)
        left.set(ylabel=label, ylim=(0, None))
        gap, error = columns["gap"].numpy(), columns["gap_se"].numpy()
        right.errorbar(sigma, gap, error, color=BLUE, marker="o", ms=3, capsize=2)
        right.set_ylabel(r"rms $|D - \mathrm{proj}|$ / rms $|x_\sigma - \mathrm{proj}|$")
        lowest = max(SMALLEST, float(gap[gap > SMALLEST].min(initial=0.5)) / 2)
        log_axis(right.yaxis, lowest, 2 * max(float(gap.max()), lowest))
        for ax in (left, right):
            log_axis(ax.xaxis, float(sigma.min()), float(sigma.max()))
            ax.set_xlabel(r"noise level $\sigma$")
            if math.isfinite(limit):
                ax.axvspan(
                    float(sigma.min()),
                    limit / math.sqrt(n),
                    color=SUPPORT,
                    alpha=0.25,
                    lw=0,
                    label=r"$\sigma\sqrt{n} <$ reach",
                )
        left.legend(loc="best", fontsize=8, framealpha=0.9)
