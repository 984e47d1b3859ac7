"""Latent diffusion (Rombach et al. 2022): a diffusers folder of the Stable Diffusion families as a
denoiser of latents that is told a prompt.

    F = U-Net(x/sqrt(1 + sigma^2), t(sigma), text),     F_w = F_null + w (F_text - F_null),
    D of F by prediction_type,                          picture = VAE(z0/scaling_factor)

    folder      what the files of a folder say, read and checked before anything is built
    networks    U-Net, VAE, text encoders, through diffusers and transformers (the extra [latent])
    prompts     the prompts of a file;  text: what the U-Net is told of them
    model       the denoiser;  decoder: pictures of latents;  condition: the prompt of sample i
    latents     the data that it leaves: there is no law
"""

from diffgeo.pretrained.latent.folder import LatentFolder, read_folder
from diffgeo.pretrained.latent.model import LatentNetwork, latent
from diffgeo.pretrained.latent.prompts import Prompts, read_prompts

__all__ = ["LatentFolder", "LatentNetwork", "Prompts", "latent", "read_folder", "read_prompts"]
