"""Run the benchmarks, print one table, keep each part in benchmarks/results/<part>.json."""

from __future__ import annotations

import os

# before torch: one core, no spinning
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive", TQDM_DISABLE="1")

import importlib  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import platform  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402

from benchmarks.measure import Row, table  # noqa: E402
from diffgeo.machine.allocator import keep_freed_memory  # noqa: E402

PARTS = ("startup", "training", "sweep", "sampling", "exact", "fid", "theory")


def record(row: Row) -> dict:
    """A row as JSON has it, which knows no nan."""
    values = row._asdict() | {"ratio": row.ratio, "verdict": row.verdict}
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            values[key] = None
    return values


def main(names: list[str]) -> None:
    if unknown := set(names) - set(PARTS):
        sys.exit(
            f"there is no benchmark {', '.join(sorted(unknown))}; write some of {', '.join(PARTS)}"
        )
    torch.set_num_threads(1)
    keep_freed_memory()
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    every: list[Row] = []
    for name in names or PARTS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows = importlib.import_module(f"benchmarks.{name}").rows()
        machine = {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        }
        page = json.dumps({"machine": machine, "rows": [record(row) for row in rows]}, indent=1)
        (results / f"{name}.json").write_text(page + "\n")
        every += rows
    print(table(every))
    print("\nCPU seconds on one thread, medians of interleaved rounds; ratio = ours / reference")


if __name__ == "__main__":
    main(sys.argv[1:])
