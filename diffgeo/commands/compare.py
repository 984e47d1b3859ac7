"""`diffgeo compare FOLDER`: one table of the runs below a folder, a row a job; writes compare.csv, compare.md and compare.png there.

The columns are the settings in which the runs differ and every metric that they share, with its floor. Runs that differ in nothing but
the seed are also summarized as mean and standard deviation.
"""
from __future__ import annotations

import csv
import io
import statistics
from pathlib import Path
from typing import NamedTuple

from diffgeo.errors import UsageError
from diffgeo.files import read_json, write_text

SHOWN = ("distance/mean", "distance/median", "distance/q99", "tangential/w2", "transport/w2", "transport/sliced_w2", "atoms/chi2",
         "denoiser/f_l2")


class Row(NamedTuple):
    settings: dict[str, str]
    metrics: dict[str, float]


def settings_of(folder: Path) -> dict[str, str]:
    import yaml

    path = folder / "overrides.yaml"
    overrides = yaml.safe_load(path.read_text()) if path.exists() else []
    return {key: value for key, _, value in (str(o).lstrip("+").partition("=") for o in overrides or [])}


def rows_below(folder: Path) -> list[Row]:
    """One row for each finished run. Raises UsageError when there is none."""
    if not folder.is_dir():
        raise UsageError(f"compare {folder}: there is no such folder; write a sweep's folder or any folder that holds finished runs")
    runs = sorted(p.parent for p in folder.rglob("metrics.json"))
    if not runs:
        raise UsageError(f"compare {folder}: no finished run in it (no metrics.json); write a folder that holds finished runs")
    settings = [settings_of(run) for run in runs]
    keys = sorted({k for s in settings for k in s if len({t.get(k) for t in settings}) > 1}, key=lambda k: (k == "seed", k))
    return [Row({k: s.get(k, "") for k in keys} or {"run": run.name}, read_json(run / "metrics.json"))
            for run, s in zip(runs, settings, strict=True)]


def over_seeds(rows: list[Row]) -> list[tuple[dict[str, str], int, dict[str, tuple[float, float]]]]:
    """Groups of rows that differ in their seed alone: (settings, count, metric -> (mean, standard deviation))."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple((k, v) for k, v in row.settings.items() if k != "seed"), []).append(row)
    out = []
    for key, members in groups.items():
        shared = set.intersection(*(set(m.metrics) for m in members))
        spread = {k: (statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else 0.0)
                  for k in sorted(shared) if (v := [float(m.metrics[k]) for m in members])}
        out.append((dict(key), len(members), spread))
    return out


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """A table that reads as plain text too: padded columns."""
    width = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    def row(cells):
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, width, strict=True)) + " |"
    return "\n".join([row(header), "|" + "|".join("-" * (w + 2) for w in width) + "|", *map(row, lines)]) + "\n"


def report(folder: Path, rows: list[Row]) -> str:
    """The tables as text: a row a job, then means over seeds where there are several."""
    names = list(rows[0].settings)
    shown = [k for k in SHOWN if any(k in r.metrics for r in rows)]
    def cell(row: Row, key: str) -> str:
        return f"{row.metrics[key]:.4g}" if key in row.metrics else ""
    text = markdown(names + shown, [[r.settings[k] for k in names] + [cell(r, k) for k in shown] for r in rows])
    floors = [[f"{k}", f"{rows[0].metrics[f'{k}_floor']:.4g}", f"{rows[0].metrics[f'{k}_floor_sd']:.2g}"]
              for k in shown if f"{k}_floor" in rows[0].metrics and len({r.metrics.get(f"{k}_floor") for r in rows}) == 1]
    groups = over_seeds(rows)
    if len(groups) < len(rows):
        names = [k for k in names if k != "seed"]
        text += "\nmean +- standard deviation over seeds\n\n" + markdown(
            names + ["runs"] + shown,
            [[s[k] for k in names] + [str(n)] + [f"{m[k][0]:.4g} +- {m[k][1]:.2g}" if k in m else "" for k in shown] for s, n, m in groups])
    if floors:
        text += "\nnoise floor: what fresh true samples of the same number give\n\n" + markdown(["metric", "floor", "sd"], floors)
    return text


def main(arguments: list[str]) -> None:
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        if arguments and arguments[0] in ("-h", "--help"):
            print(__doc__.strip())
            return
        raise UsageError("write diffgeo compare FOLDER, a folder that holds finished runs")
    folder = Path(arguments[0])
    rows = rows_below(folder)
    text = report(folder, rows)
    metrics = sorted({k for r in rows for k in r.metrics})
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow([*rows[0].settings, *metrics])
    table.writerows([*r.settings.values(), *(r.metrics.get(k, "") for k in metrics)] for r in rows)
    write_text(folder / "compare.csv", buffer.getvalue())
    write_text(folder / "compare.md", text)
    from diffgeo import plot
    plot.comparison(folder / "compare.png", over_seeds(rows), [k for k in SHOWN if all(k in r.metrics for r in rows)])
    print(text)
    print(f"written: {folder}/compare.csv, compare.md, compare.png")
