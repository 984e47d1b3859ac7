"""What each step aims at, x - sigma ebar, along the way of the first sample; by name only."""

from diffgeo.report.strips import draw, shows

__all__ = ["draw", "shows"]
