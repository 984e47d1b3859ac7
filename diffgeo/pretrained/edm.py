"""EDM's weights. NVIDIA's pickles hold classes and are read nowhere but in EDM's own repository;
there, four lines export them:

    import pickle, safetensors.torch
    net = pickle.load(open("edm-cifar10-32x32-uncond-vp.pkl", "rb"))["ema"]
    tensors = {name: v.contiguous() for name, v in net.state_dict().items()}
    safetensors.torch.save_file(tensors, "edm-cifar10-32x32-uncond-vp.safetensors")

The weights are under their own licence (CC BY-NC-SA 4.0).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from diffgeo.core import Data
from diffgeo.denoiser import Network
from diffgeo.errors import UsageError
from diffgeo.nn.song import SongUNet
from diffgeo.parameterization import EDM
from diffgeo.pretrained.weights import check_images, fitted, frozen, length, read


def edm_checkpoint(
    data: Data, net=None, *, path: str | None = None, edm_sigma_data: float = 0.5, **unused
) -> Network:
    """A DDPM++ network of EDM ("...-vp"), exported as above.

    edm_sigma_data: the deviation it was preconditioned with.
    Its shape is read off the file. Raises UsageError when the file holds another architecture
    (NCSN++, "...-ve", or ADM).
    """
    if path is None:
        raise UsageError(
            "model=edm_checkpoint needs model.path=FILE.safetensors; diffgeo/pretrained/edm.py "
            "says how to export one"
        )
    source = f"model.path={path}"
    tensors = {}
    filters = []  # of the changes of resolution
    for name, tensor in read(path, "model.path", "map_layer0.weight").items():
        if name.endswith("resample_filter"):  # buffers, read for what they say
            filters.append(tensor)
        else:
            tensors[name] = tensor
    first = first_layer(tensors)
    if first is None or "map_layer0.weight" not in tensors:
        raise UsageError(
            f"{source} is no export of an EDM network: it holds {', '.join(list(tensors)[:3])}, "
            "..., and no map_layer0.weight, enc.32x32_conv.weight"
        )
    size, channels, images = first
    check_images(data, images, (size, size), source)
    sizes = []
    mult = []
    attention = []
    for halvings in range(size.bit_length()):
        side = size >> halvings
        block = f"enc.{side}x{side}_block0"
        if width := length(tensors, f"{block}.conv0.weight", 0, source):
            sizes.append(side)
            mult.append(width // channels)
        if f"{block}.qkv.weight" in tensors:
            attention.append(side)
    averaging = torch.full((1, 1, 2, 2), 0.25)
    if not sizes or any(not torch.equal(f, averaging) for f in filters):
        raise UsageError(
            f"{source} holds another architecture than DDPM++: its resampling filters are not "
            "[1, 1]; export a -vp network"
        )
    a_block = re.compile(rf"enc\.{size}x{size}_block\d+\.conv0\.weight")

    def make() -> SongUNet:
        return SongUNet(
            data.shape,
            channels,
            mult,
            blocks=len([name for name in tensors if a_block.fullmatch(name)]),
            attention=attention,
            classes=length(tensors, "map_label.weight", 1, source),
            augment=length(tensors, "map_augment.weight", 1, source),
        )

    return frozen(fitted(make, lambda net: tensors, source), EDM(edm_sigma_data))


def first_layer(tensors: dict[str, Tensor]) -> tuple[int, int, int] | None:
    """(side of the images, channels of the network, channels of the images); None where no tensor
    is the first layer's."""
    for name, tensor in tensors.items():
        found = re.fullmatch(r"enc\.(\d{1,5})x\1_conv\.weight", name)
        if found is not None and tensor.dim() == 4 and all(tensor.shape):
            return int(found[1]), tensor.shape[0], tensor.shape[1]
    return None
