"""How evenly a cloud covers the petals of a flower."""

from dataclasses import dataclass

from diffgeo.metrics.base import Measure
from garden.flower import Flower


@dataclass(frozen=True)
class Petals(Measure):
    """The total variation sum_k |share_k - 1/petals|/2 between the petals of a cloud and those of
    its law: 0 where they are even, 1 - 1/petals where all points lie at one."""

    cheap = True  # a floor of many pairs costs little
    better = {"petals/*": "less"}  # the way in which the table and a ranking take it

    def __call__(self, run, data):
        if not isinstance(data, Flower):
            return {}  # another law has no petals
        shares = data.shares(run.samples)
        return {"petals/variation": float((shares - 1 / data.petals).abs().sum() / 2)}
