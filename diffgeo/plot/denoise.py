"""The loss of denoisers by noise level, and the size of the Hessian of log p_t by time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from diffgeo.plot.canvas import BLACK, BLUE, GREEN, SUPPORT, VERMILION, log_axis, sheet

LINES = {
    "largest": ("largest seen", "o-", VERMILION),
    "bound": ("bound by the radius", "--", SUPPORT),
    "psi": (r"$\psi_1$ norm of $|H|_F$ at draws", "s-", BLUE),
    "root": (r"rms $|H|_F$ at draws", "^-", GREEN),
}
COLOURS = (BLACK, SUPPORT, BLUE, VERMILION)


def denoise(
    path,
    losses: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    turned: Mapping[str, Sequence[float | None]],
) -> None:
    """losses: of each denoiser, levels, losses and standard errors. turned: `t`, and the sizes of H
    there by name, None where there is none."""
    with sheet(path, 1, 2, (4.8, 3.8)) as (_, axes):
        left, right = axes[0]
        values = []
        for number, (name, (sigma, loss, error)) in enumerate(losses.items()):
            label = r"exact: $E\,\mathrm{tr\,Cov}[x_0|y]$" if name == "exact" else name
            left.errorbar(
                sigma,
                loss,
                error,
                fmt="osv^"[number % 4] + ("-" if number == 0 else "--"),
                color=COLOURS[number % len(COLOURS)],
                ms=4,
                capsize=2,
                label=label,
            )
            values += [value for value in loss if value > 0]
        ticks(left, sigma)
        if values:  # of one point every loss is 0
            log_axis(left.yaxis, min(values) / 1.3, 1.3 * max(values))
        left.set(xlabel=r"noise level $\sigma$", ylabel=r"$L(r) = E|r(y) - x_0|^2$")
        left.legend(frameon=False, fontsize=8)

        t = np.array(turned["t"], dtype=float)
        shown = []
        for name, (label, style, colour) in LINES.items():
            sizes = np.array(turned[name], dtype=float)
            if np.isnan(sizes).all():
                continue
            right.plot(t, sizes, style, color=colour, ms=4, label=label)
            shown.append(sizes)
        ticks(right, t)
        everything = np.concatenate(shown)
        log_axis(right.yaxis, everything.min() / 1.3, 1.3 * everything.max())
        right.set(xlabel="time t", ylabel=r"size of $H = \nabla^2 \log p_t$")
        right.legend(frameon=False, fontsize=8)


def ticks(ax, levels: Sequence[float]) -> None:
    """A log axis across with a tick at every level, or at eight of them."""
    ax.set(xscale="log", xlim=(min(levels) / 1.25, 1.25 * max(levels)))
    ax.minorticks_off()
    shown = list(levels)[:: -(-len(levels) // 8)]
    ax.set_xticks(shown, [f"{level:g}" for level in shown])
