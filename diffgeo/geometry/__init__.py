"""The geometry of sampling paths: maths that takes a `Trajectory` or a `Simulation`, never a
config."""

from diffgeo.geometry.straightness import chord, straightness, to_chart

__all__ = ["chord", "straightness", "to_chart"]
