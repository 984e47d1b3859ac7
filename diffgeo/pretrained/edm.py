"""EDM's weights. NVIDIA's pickles hold classes and are read nowhere but in EDM's own repository;
there, three lines export them:

    import pickle, safetensors.torch net = pickle.load(open("edm-cifar10-32x32-uncond-vp.pkl",
    "rb"))["ema"] safetensors.torch.save_file({k: v.contiguous() for k, v in
    net.state_dict().items()}, "edm-cifar10-32x32-uncond-vp.safetensors")

The weights are under their own licence (CC BY-NC-SA 4.0).
"""

from __future__ import annotations

import re

from diffgeo.core import Data
from diffgeo.denoiser import Network
from diffgeo.errors import UsageError
from diffgeo.nn.song import SongUNet
from diffgeo.parameterization import EDM
from diffgeo.pretrained.weights import check_images, fit, frozen, read


def edm_checkpoint(
    data: Data, net=None, *, path: str | None = None, edm_sigma_data: float = 0.5, **unused
) -> Network:
    """A DDPM++ network of EDM ("...-vp"), exported as above. edm_sigma_data: the deviation it was
    preconditioned with.

    Its shape is read off the file. Raises UsageError when the file holds another architecture
    (NCSN++, "...-ve", or ADM).
    """
    if path is None:
        raise UsageError(
            "model=edm_checkpoint needs model.path=FILE.safetensors; diffgeo/pretrained/edm.py "
            "says how to export one"
        )
    tensors = read(path, "model.path")
    source = f"model.path={path}"
    tensors = {name.removeprefix("model."): v for name, v in tensors.items()}
    filters = {
        name: tensors.pop(name) for name in list(tensors) if name.endswith("resample_filter")
    }
    first = next(
        filter(None, (re.fullmatch(r"enc\.(\d+)x\1_conv\.weight", name) for name in tensors)), None
    )
    if first is None or "map_layer0.weight" not in tensors:
        raise UsageError(
            f"{source} is no export of an EDM network: it holds {', '.join(list(tensors)[:3])}, "
            "..., and no "
            "map_layer0.weight, enc.32x32_conv.weight"
        )
    size, (channels, images) = int(first[1]), tensors[first[0]].shape[:2]
    check_images(data, images, (size, size), source)
    sizes = [
        size >> i
        for i in range(size.bit_length())
        if f"enc.{size >> i}x{size >> i}_block0.conv0.weight" in tensors
    ]
    if not sizes or any(f.shape != (1, 1, 2, 2) for f in filters.values()):
        raise UsageError(
            f"{source} holds another architecture than DDPM++: its resampling filters are not [1, "
            "1]; export a -vp network"
        )
    blocks = sum(
        bool(re.fullmatch(rf"enc\.{size}x{size}_block\d+\.conv0\.weight", name)) for name in tensors
    )
    module = SongUNet(
        data.shape,
        channels,
        [tensors[f"enc.{s}x{s}_block0.conv0.weight"].shape[0] // channels for s in sizes],
        blocks,
        [s for s in sizes if f"enc.{s}x{s}_block0.qkv.weight" in tensors],
        classes=tensors["map_label.weight"].shape[1] if "map_label.weight" in tensors else 0,
        augment=tensors["map_augment.weight"].shape[1] if "map_augment.weight" in tensors else 0,
    )
    fit(module, tensors, source)
    return frozen(module, EDM(edm_sigma_data))
