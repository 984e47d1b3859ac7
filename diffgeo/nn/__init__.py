"""Networks F(x, noise): x [B,*D] already multiplied by `inp`, noise [B] the conditioning scalar of
the parameterization."""

from diffgeo.nn.embedding import Fourier, Sinusoidal
from diffgeo.nn.mlp import MLP, MLPTanh
from diffgeo.nn.softmax import Softmax
from diffgeo.nn.unet import UNet

__all__ = ["MLP", "Fourier", "MLPTanh", "Sinusoidal", "Softmax", "UNet"]
