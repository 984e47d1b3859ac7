"""Curves: errors against t, the fixed point of the CEM paper, the loss, and tables of many runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from diffgeo.plot.canvas import BLACK, BLUE, COLOURS, SUPPORT, VERMILION, log_axis, sheet
from diffgeo.plot.page import literal, outside

Metrics = Mapping[str, tuple[float, float]]  # metric -> (mean, sd over seeds)
Group = tuple[Mapping[str, str], int, Metrics]  # settings, number of runs, metrics

KINDS = (("score", "score $S$"), ("epsilon", r"$\epsilon$"), ("f", "$f = D$"))


def _times(ax, t: Tensor, t_min: float | None) -> None:
    """A log axis of times, those below the smallest training time shaded: there the network
    extrapolates."""
    low = float(t.min())
    high = float(t.max())
    ax.set(xscale="log", xlim=(low, high), xlabel="t")
    ax.xaxis.minorticks_off()
    if t_min is not None and t_min > low * 1.01:  # else the shade is thinner than a line
        ax.axvspan(low, min(t_min, high), color="#EFEFEF", zorder=0)
        ax.axvline(t_min, color=SUPPORT, linestyle=":", linewidth=1)
        note = "below the training times"
        ax.text(0.02, 0.02, note, transform=ax.transAxes, fontsize=7, color="#707070")


def errors(path, models: Mapping[str, Mapping[str, Tensor]], t_min: float | None = None) -> None:
    """Root-mean-square errors per coordinate against t, from `metrics.denoiser_error`: one colour a
    model, solid the whole error, dashed its normal and dotted its tangential part. models: name ->
    curves. t_min: the smallest training time.
    """
    parts = {"": "-", "_normal": "--", "_tangential": ":"}
    with sheet(path, 1, 3, (4.0, 3.4)) as (_, axes):
        for part, style in parts.items():
            axes[0, 2].plot([], [], style, color=BLACK, label=part[1:] or "total")
        for ax, (kind, title) in zip(axes[0], KINDS, strict=True):
            seen = []
            for (name, curves), colour in zip(models.items(), COLOURS, strict=False):
                for part, style in parts.items():
                    whole = part == ""
                    rms = curves[kind + part].sqrt()
                    seen.append(rms)
                    ax.plot(
                        curves["t"],
                        rms,
                        style,
                        color=colour,
                        linewidth=1.6 if whole else 1.2,
                        label=name if whole and kind == "score" else None,
                    )
            _times(ax, curves["t"], t_min)
            ax.set_title(title)
            every = np.concatenate(seen)
            if (every > 0).any():
                log_axis(ax.yaxis, every[every > 0].min(), every.max())
        axes[0, 0].set_ylabel("rms error per coordinate")
        # the error of the score falls with t; that of D has no shape of its own
        axes[0, 0].legend(frameon=False, fontsize=8, loc="upper right")
        axes[0, 2].legend(frameon=False, fontsize=8, loc="best")


def fixed_point(
    path, models: Mapping[str, Mapping[str, Tensor]], t_min: float | None = None
) -> None:
    """S, epsilon and f at a fixed x_t against t, from `metrics.fixed_point`: a column each, a row a
    coordinate; black is exact."""
    first = next(iter(models.values()))
    with sheet(path, 2, 3, (4.0, 2.6), sharex=True) as (_, axes):
        for column, (kind, title) in enumerate(KINDS):
            for i, ax in enumerate(axes[:, column]):
                exact = first[kind + "_exact"][:, i]
                ax.plot(first["t"], exact, color=BLACK, linewidth=2.2, label="exact")
                for colour, (name, curves) in zip(COLOURS, models.items(), strict=False):
                    ax.plot(
                        curves["t"],
                        curves[kind][:, i],
                        color=colour,
                        linewidth=1.3,
                        linestyle="--",
                        label=name,
                    )
                _times(ax, first["t"], t_min)
                ax.set(title=f"{title}, coordinate {i + 1}", xlabel="t" if i else "")
                if exact.abs().max() > 100:
                    ax.set_yscale("symlog", linthresh=1)
        axes[0, 0].legend(frameon=False, fontsize=8)


def loss(
    path, records: Sequence[tuple[int, float]], least: tuple[float, float] | None = None
) -> None:
    """The training loss against the step, from (step, loss) records, with its running mean over a
    fiftieth of the run.

    least: the least loss that the law admits, and its standard error, drawn as a floor.
    """
    step, value = np.asarray(records, dtype=float).reshape(-1, 2).T
    window = max(1, len(step) // 50)
    with sheet(path, 1, 1, (5.5, 3.4)) as (_, axes):
        ax = axes[0, 0]
        dot = "o" if len(step) == 1 else ""  # a line of one record shows nothing
        ax.plot(step, value, color=BLUE, linewidth=0.7, alpha=0.45, marker=dot, label="loss")
        if window > 1:
            mean = np.convolve(value, np.full(window, 1 / window), "valid")
            ax.plot(
                step[window - 1 :],
                mean,
                color=VERMILION,
                linewidth=1.6,
                label=f"mean of {window} records",
            )
        ax.set(xlabel="training step", ylabel="loss")
        if least is not None:
            floor, error = least
            told = f"least, of the exact denoiser: {floor:.4g} $\\pm$ {error:.1g}"
            ax.axhline(floor, color=BLACK, linestyle="--", linewidth=1.2, label=told)
        if len(value) and (value > 0).all():
            ax.set_yscale("log")
        ax.legend(frameon=False, fontsize=8)


def comparison(
    path, groups: Sequence[Group], keys: Sequence[str], floors: Mapping[str, float] = {}
) -> None:
    """Runs side by side: a panel a metric of `keys`, a row a group, sorted by name; the bar is one
    sd over seeds, the grey band what passes for fresh samples of the truth, up to `floors` of the
    metric."""
    groups = sorted(groups, key=lambda group: in_order(named(group[0])))
    columns = min(4, max(1, len(keys)))
    lines = -(-len(keys) // columns) or 1
    size = (3.0, 1.1 + 0.3 * len(groups))
    with sheet(path, lines, columns, size, sharey=True) as (_, axes):
        for ax in axes.flat[len(keys) :]:
            ax.set_visible(False)
        for ax, key in zip(axes.flat, keys, strict=False):
            compared(ax, key, [metrics for _, _, metrics in groups], floors.get(key, 0.0))
        names = [literal(named(settings)) for settings, _, _ in groups]
        axes[0, 0].set_yticks(range(len(groups)), names)


def named(settings: Mapping[str, str]) -> str:
    """A group by its settings, without the seed."""
    words = []
    for key, value in settings.items():
        if key == "run":
            words.append(value)
        elif key != "seed" and value:  # without one it has its default
            words.append(f"{key}={value}")
    return ", ".join(words) or ("defaults" if any(key != "seed" for key in settings) else "all")


def in_order(name: str) -> list[tuple[float, str]]:
    """A key that sorts names by their letters, and the numbers in them by what they are worth."""
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(float(part), "") if i % 2 else (0.0, part) for i, part in enumerate(parts)]


def compared(ax, key: str, groups: Sequence[Metrics], top: float) -> None:
    """One metric of every group that has it, a row each; what is not finite is named, not drawn."""
    means = []
    for row, metrics in enumerate(groups):
        if key not in metrics:
            continue
        mean, sd = metrics[key]
        colour = COLOURS[row % len(COLOURS)]
        if not np.isfinite(mean):
            ax.text(0.02, row, f"{mean:g}", color=colour, transform=ax.get_yaxis_transform())
            continue
        means.append(mean)
        bar = sd if np.isfinite(sd) else None
        ax.errorbar(mean, row, xerr=bar, fmt="o", color=colour, markersize=5, capsize=3)
    if means and min(means) > 0 and max(means) > 5 * min(means):
        low = min([*means, top or means[0]])
        high = max([*means, top])
        log_axis(ax.xaxis, low / 1.3, high * 1.3)
    else:
        left = min(0, *means, 0)
        if means:  # room for the whole of a marker, or of a bar, at the end
            ax.set_xlim(left, left + 1.06 * (max(ax.get_xlim()[1], 0) - left))
    if top > ax.get_xlim()[0]:
        ax.axvspan(ax.get_xlim()[0], top, color="#E4E4E4", zorder=0)
        ax.set_xlabel("grey: noise floor", fontsize=8)
    ax.set_title(key, fontsize=10)
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.tick_params(labelsize=8)


def fine_ticks(axis, low: float, high: float) -> None:
    """A log scale from low to high, or as little more as shows three ticks, at 1, 2 and 5 times the
    powers of ten."""

    while len(ticks(low, high)) < 3:
        low = low / 1.1
        high = high * 1.1
    name = axis.axis_name
    options = {"scale": "log", "lim": (low, high), "ticks": ticks(low, high)}
    axis.axes.set(**{name + option: value for option, value in options.items()})
    axis.set_major_formatter("{x:g}")
    axis.minorticks_off()


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten from low to high."""
    first = int(np.floor(np.log10(low)))
    last = int(np.ceil(np.log10(high)))
    marks = [float(f"{digit}e{power}") for power in range(first, last) for digit in (1, 2, 5)]
    marks.append(float(f"1e{last}"))
    return [mark for mark in marks if low <= mark <= high]


def work(
    path,
    groups: Sequence[Group],
    keys: Sequence[str],
    nfe: str,
    floors: Mapping[str, float] = {},
) -> None:
    """Work and precision: a panel a metric of `keys` against the metric `nfe`, a line for all
    groups that differ in nothing but the number of steps, sorted by name, whose colour is its place
    in that order; the bar is one sd over several seeds, the grey band what passes for fresh samples
    of the truth, up to `floors` of the metric. Both axes are logarithmic. The legend says above its
    names which settings they are.
    """
    lines: dict[str, list[tuple[int, Metrics]]] = {}
    varied: list[str] = []
    for settings, count, metrics in groups:
        own = {key: value for key, value in settings.items() if not key.endswith(".steps")}
        varied = [key.rpartition("@")[2] for key in own]
        lines.setdefault(", ".join(own.values()) or "all", []).append((count, metrics))
    lines = dict(sorted(lines.items(), key=lambda line: in_order(line[0])))
    columns = min(2, len(keys))
    with sheet(path, -(-len(keys) // columns), columns, (4.2, 3.4)) as (figure, axes):
        for ax in axes.flat[len(keys) :]:
            ax.set_visible(False)
        handles: dict[str, object] = {}
        for ax, key in zip(axes.flat, keys, strict=False):
            precision(ax, key, nfe, lines, floors.get(key, 0.0))
            drawn, names = ax.get_legend_handles_labels()
            handles |= dict(zip(names, drawn, strict=True))
        figure.legend(
            handles.values(),
            [literal(name) for name in handles],
            title=literal(", ".join(varied)),
            **outside(),
            frameon=False,
            fontsize=8,
            title_fontsize=8,
            alignment="left",
        )


def precision(
    ax, key: str, nfe: str, lines: Mapping[str, Sequence[tuple[int, Metrics]]], top: float
) -> None:
    """One panel of `work`: a metric against the evaluations."""
    heights = []
    for i, (name, runs) in enumerate(lines.items()):
        marks = []
        for count, metrics in runs:
            mean, spread = metrics.get(key, (0.0, 0.0))
            if mean > 0 and np.isfinite(mean):
                marks.append((metrics[nfe][0], mean, spread if count > 1 else np.nan))
        x, y, sd = np.array(sorted(marks)).reshape(-1, 3).T
        heights += y.tolist()
        ax.errorbar(
            x,
            y,
            yerr=None if np.isnan(sd).all() else sd,
            color=COLOURS[i % len(COLOURS)],
            marker="osD^vPX*"[i % 8],
            markersize=4.5,
            linewidth=1.2,
            linestyle=("-", "--", ":")[i // len(COLOURS) % 3],
            capsize=2,
            label=name,
        )
    ax.set(xscale="log", xlabel="network evaluations a sample", title=key)
    fine_ticks(ax.xaxis, *ax.get_xlim())
    low = min(heights, default=1)
    high = max(heights, default=1)
    if high < 100 * low:
        fine_ticks(ax.yaxis, low / 1.2, 1.2 * high)
    else:
        log_axis(ax.yaxis, low, high)
    ax.minorticks_off()
    bottom, edge = ax.get_ylim()
    if top > bottom:
        label = "noise floor"
        ax.axhspan(bottom, min(top, edge), color="#E4E4E4", zorder=0, label=label)
