"""The denoised estimate along the way of the run's first sample, last the sample; by name only."""

from diffgeo.report.strips import draw, shows

__all__ = ["draw", "shows"]
