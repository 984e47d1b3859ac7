"""The loss of a training, step by step, as metrics.jsonl has it, above the least that its law
admits."""

import json

from diffgeo import plot
from diffgeo.training.least import recorded


def shows(view):
    return view.run.simulation is not None and (view.folder / "metrics.jsonl").exists()


def draw(path, view):
    lines = (view.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    losses = [(record["step"], record["loss"]) for record in records if "loss" in record]
    least = recorded(view.folder)
    plot.loss(path, losses, None if least is None else (least.loss, least.error))
