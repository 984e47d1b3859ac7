"""Networks that others trained, as denoisers: the builders that model=diffusers, ddim_checkpoint
and edm_checkpoint name.

    discrete time    D(x; sigma) = x - sigma eps(x/sqrt(1 + sigma^2), t(sigma)),
                     t the index of the level among those trained
    EDM              D(x; sigma) = skip x + out F(inp x, log(sigma)/4),
                     Karras et al. (2022), Table 1

Each is called with the law (`net=` is not looked at) and returns a `denoiser.Network` that bears
its weights: it needs no run folder, which its attribute `pretrained` says. Between two trained
levels t is a fraction (log sigma is interpolated); the published protocols ask at whole t only,
rounded up or to the nearest: loop.rounding=up with the schedule the network was trained on, e.g.
schedule=ddpm.

Files are never unpickled: safetensors, or torch.load(weights_only=True). Weights fit the network
tensor by tensor or are refused, and so is every key of a configuration that is not honoured.
"""

from diffgeo.pretrained.ddpm import ddim_checkpoint
from diffgeo.pretrained.edm import edm_checkpoint
from diffgeo.pretrained.folder import diffusers

__all__ = ["ddim_checkpoint", "diffusers", "edm_checkpoint"]
