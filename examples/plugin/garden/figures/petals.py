"""The share of the samples at each petal, beside the law's."""

from diffgeo.plot.page import sheet
from garden.flower import Flower


def shows(view):
    return isinstance(view.experiment.data, Flower)


def draw(path, view):
    flower = view.experiment.data
    shares = flower.shares(view.run.samples)
    with sheet(path, size=(5.0, 3.2)) as (_, axes):
        (ax,) = axes.flat
        ax.bar(range(1, flower.petals + 1), shares.tolist(), color="#0072B2", label="samples")
        ax.axhline(1 / flower.petals, color="#D55E00", linestyle="--", label="law")
        ax.set(xlabel="petal", ylabel="share of the samples", xticks=range(1, flower.petals + 1))
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
