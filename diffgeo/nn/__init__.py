"""Networks F(x, noise): x [B,*D] already multiplied by `inp`, noise [B] the conditioning scalar of the parameterization."""
from diffgeo.nn.embedding import Fourier
from diffgeo.nn.mlp import MLP, MLPTanh

__all__ = ["MLP", "Fourier", "MLPTanh"]
