"""How a network learns: the loss and its weighting, the optimizer, the average, the loop."""

from diffgeo.training.loop import Progress, Training
from diffgeo.training.trainer import Trainer
from diffgeo.training.weighting import EDM, Expression, MinSNR, Native, Power

__all__ = ["EDM", "Expression", "MinSNR", "Native", "Power", "Progress", "Trainer", "Training"]
