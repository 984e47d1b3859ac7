"""`diffgeo compare FOLDER [by=METRIC]`: one table of the runs below a folder, a row a job; writes
compare.csv, .md and .png there.

The columns are the settings in which the runs differ and every metric that they share, with its
floor. Below it the runs are ranked by one metric, as mean and standard deviation over those that
differ in nothing but the seed, and the best within each number of network evaluations is named. The
picture has a panel a metric: against the network evaluations when the runs differ in them, with a
line for each choice of the other settings.
"""

from __future__ import annotations

import csv
import io
import statistics
from pathlib import Path
from typing import NamedTuple

from diffgeo.errors import UsageError
from diffgeo.store.files import read_json, write_text

NFE = "sampling/nfe"
SHOWN = (
    "flow/rms",
    "distance/mean",
    "distance/median",
    "distance/q99",
    "tangential/w2",
    "transport/w2",
    "transport/sliced_w2",
    "atoms/chi2",
    "denoiser/f_l2",
    "budget/total",
    "budget/total_w2",
)
WORK = ("flow/rms", "distance/mean", "tangential/w2", "transport/sliced_w2")  # against evaluations


class Row(NamedTuple):
    settings: dict[str, str]
    metrics: dict[str, float]


def settings_of(folder: Path) -> dict[str, str]:
    import yaml

    path = folder / "overrides.yaml"
    overrides = yaml.safe_load(path.read_text()) if path.exists() else []
    return {
        key: value for key, _, value in (str(o).lstrip("+").partition("=") for o in overrides or [])
    }


def rows_below(folder: Path) -> list[Row]:
    """One row for each finished run. Raises UsageError when there is none."""
    if not folder.is_dir():
        raise UsageError(
            f"compare {folder}: there is no such folder; write a sweep's folder or any folder that "
            "holds finished runs"
        )
    runs = sorted(p.parent for p in folder.rglob("metrics.json"))
    if not runs:
        raise UsageError(
            f"compare {folder}: no finished run in it (no metrics.json); write a folder that holds "
            "finished runs"
        )
    settings = [settings_of(run) for run in runs]
    keys = sorted(
        {k for s in settings for k in s if len({t.get(k) for t in settings}) > 1},
        key=lambda k: (k == "seed", k),
    )
    return [
        Row({k: s.get(k, "") for k in keys} or {"run": run.name}, read_json(run / "metrics.json"))
        for run, s in zip(runs, settings, strict=True)
    ]


def over_seeds(rows: list[Row]) -> list[tuple[dict[str, str], int, dict[str, tuple[float, float]]]]:
    """Groups of rows that differ in their seed alone: (settings, count, metric -> (mean, standard
    deviation))."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple((k, v) for k, v in row.settings.items() if k != "seed"), []).append(
            row
        )
    out = []
    for key, members in groups.items():
        shared = set.intersection(*(set(m.metrics) for m in members))
        spread = {
            k: (statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else 0.0)
            for k in sorted(shared)
            if (v := [float(m.metrics[k]) for m in members])
        }
        out.append((dict(key), len(members), spread))
    return out


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """A table that reads as plain text too: padded columns."""
    width = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]

    def row(cells):
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, width, strict=True)) + " |"

    return (
        "\n".join(
            [row(header), "|" + "|".join("-" * (w + 2) for w in width) + "|", *map(row, lines)]
        )
        + "\n"
    )


def common(rows: list[Row]) -> list[str]:
    """The metrics of SHOWN that all rows have; without any, the first few that all have."""
    every = [k for k in rows[0].metrics if all(k in r.metrics for r in rows)]
    return [k for k in SHOWN if k in every] or every[:8]


def report(rows: list[Row], by: str) -> str:
    """The tables as text: a row a job, the ranking by the metric `by`, the floors."""
    names = list(rows[0].settings)
    asked = dict.fromkeys([*([NFE] if differ(rows, NFE) else []), *SHOWN, *common(rows), by])
    shown = [k for k in asked if any(k in r.metrics for r in rows)]

    def cell(row: Row, key: str) -> str:
        return f"{row.metrics[key]:.4g}" if key in row.metrics else ""

    text = markdown(
        names + shown, [[r.settings[k] for k in names] + [cell(r, k) for k in shown] for r in rows]
    )
    floors = [
        [f"{k}", f"{rows[0].metrics[f'{k}_floor']:.4g}", f"{rows[0].metrics[f'{k}_floor_sd']:.2g}"]
        for k in shown
        if f"{k}_floor" in rows[0].metrics and len({r.metrics.get(f"{k}_floor") for r in rows}) == 1
    ]
    ranked = sorted((g for g in over_seeds(rows) if by in g[2]), key=lambda g: g[2][by][0])
    if len(ranked) > 1:
        names = [k for k in names if k != "seed"]
        several = any(n > 1 for _, n, _ in ranked)

        def spread(mean: float, sd: float) -> str:
            return f"{mean:.4g} +- {sd:.2g}" if several else f"{mean:.4g}"

        text += (
            f"\nranked by {by}"
            + (", mean +- standard deviation over seeds" if several else "")
            + "\n\n"
            + markdown(
                ["rank", *names, "runs", *shown],
                [
                    [
                        str(i),
                        *(s[k] for k in names),
                        str(n),
                        *(spread(*m[k]) if k in m else "" for k in shown),
                    ]
                    for i, (s, n, m) in enumerate(ranked, 1)
                ],
            )
        )
    if len(ranked) > 1 and differ(rows, NFE):
        within = [
            (budget, min((g for g in ranked if g[2][NFE][0] <= budget), key=lambda g: g[2][by][0]))
            for budget in sorted({g[2][NFE][0] for g in ranked})
        ]
        steps_up = [w for i, w in enumerate(within) if i == 0 or w[1] is not within[i - 1][1]]
        text += f"\nbest {by} within so many network evaluations a sample\n\n" + markdown(
            ["evaluations", *names, by],
            [
                [f"{budget:g}", *(s[k] for k in names), spread(*m[by])]
                for budget, (s, _, m) in steps_up
            ],
        )
    if floors:
        text += "\nnoise floor: what fresh true samples of the same number give\n\n" + markdown(
            ["metric", "floor", "sd"], floors
        )
    return text


def differ(rows: list[Row], key: str) -> bool:
    """Whether every row has the metric and they do not all have the same."""
    return all(key in r.metrics for r in rows) and len({r.metrics[key] for r in rows}) > 1


def criterion(rows: list[Row], by: str) -> str:
    """The metric to rank by: `by`, else the first that all rows have. Raises UsageError when no row
    has it."""
    if by and not any(by in r.metrics for r in rows):
        known = sorted(
            {k for r in rows for k in r.metrics if not k.endswith(("_floor", "_floor_sd"))}
        )
        raise UsageError(f"by={by}: no run has that metric; write one of {', '.join(known)}")
    return by or next((k for k in SHOWN if all(k in r.metrics for r in rows)), "")


def main(arguments: list[str]) -> None:
    if "-h" in arguments or "--help" in arguments:
        print(__doc__.strip())
        return
    by = [a.removeprefix("by=") for a in arguments if a.startswith("by=")]
    folders = [a for a in arguments if not a.startswith(("by=", "-"))]
    if len(folders) != 1 or len(by) > 1 or len(folders) + len(by) < len(arguments):
        raise UsageError(
            "write diffgeo compare FOLDER [by=METRIC], a folder that holds finished runs"
        )
    folder = Path(folders[0])
    rows = rows_below(folder)
    text = report(rows, criterion(rows, "".join(by)))
    metrics = sorted({k for r in rows for k in r.metrics})
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow([*rows[0].settings, *metrics])
    table.writerows([*r.settings.values(), *(r.metrics.get(k, "") for k in metrics)] for r in rows)
    write_text(folder / "compare.csv", buffer.getvalue())
    write_text(folder / "compare.md", text)
    from diffgeo import plot

    if differ(rows, NFE):
        plot.work(
            folder / "compare.png",
            over_seeds(rows),
            [k for k in WORK if any(k in r.metrics for r in rows)],
            NFE,
        )
    else:
        plot.comparison(folder / "compare.png", over_seeds(rows), common(rows))
    print(text)
    print(f"written: {folder}/compare.csv, compare.md, compare.png")
