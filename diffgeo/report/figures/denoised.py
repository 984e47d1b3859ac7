"""Images with noise of a few levels, denoised by the network and by the exact denoiser."""

import torch

from diffgeo import plot
from diffgeo.core import expand, generator

NOISE = (0.2, 0.5, 1.0, 2.0, 5.0)  # in units of the data


def shows(view):
    return view.of_set and view.learned


@torch.no_grad()
def draw(path, view):
    data = view.experiment.data
    device = view.experiment.device
    g = generator(view.run.seed, *b"figure", device=device)
    x0 = data.sample(len(NOISE), g)
    sigma = data.std * torch.tensor(NOISE, dtype=torch.float64, device=device)
    noise = torch.randn(x0.shape, generator=g, device=device, dtype=torch.float64)
    x = x0 + expand(sigma, x0) * noise
    learned = view.run.denoise(x, sigma)
    exact = data.denoiser()(x, sigma)
    noisy, learned, exact = (data.quantize(images.cpu()) for images in (x, learned, exact))
    plot.denoised(path, noisy, learned, exact, sigma.tolist(), view.kind)
