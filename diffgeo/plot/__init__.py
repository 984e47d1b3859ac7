"""Figures: small PNG files, drawn without a display and written whole or not at all.

matplotlib is imported when the first figure is drawn, never by `import diffgeo.plot`. The colours are Okabe and Ito's, which
stay apart for colour-blind readers: grey is the truth's support, black the exact denoiser, colours are what was learned.
"""
from diffgeo.plot.curves import comparison, errors, fixed_point, loss
from diffgeo.plot.space import fields, samples, trajectories

__all__ = ["comparison", "errors", "fields", "fixed_point", "loss", "samples", "trajectories"]
