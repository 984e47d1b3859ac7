"""The loss of a training, step by step, as metrics.jsonl has it."""

import json

from diffgeo import plot


def shows(view):
    return view.run.simulation is not None and (view.folder / "metrics.jsonl").exists()


def draw(path, view):
    lines = (view.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    losses = [(record["step"], record["loss"]) for record in records if "loss" in record]
    plot.loss(path, losses)
