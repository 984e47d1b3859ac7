"""The networks of a latent-diffusion folder: made by diffusers and transformers (the extra
[latent]) from the configurations, filled with the weights of the safetensors files.

The libraries' own loading is not used: it fills weights that a file lacks with random ones and only
warns. Here every tensor has to be there, in its shape, and nothing else. Networks are made without
memory (the device "meta") and take the tensors of the files as they are.

Both libraries are imported when a network is made, not before, and told to stay offline.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffgeo.errors import UsageError
from diffgeo.pretrained.latent.files import read_weights
from diffgeo.pretrained.latent.parts import LatentFolder, TextPart
from diffgeo.pretrained.names import OLDER
from diffgeo.pretrained.weights import check_fit

# of a text encoder's config.json: what makes the network; the rest is the library's bookkeeping
TEXT_KEYS = (
    *("vocab_size", "hidden_size", "intermediate_size", "projection_dim"),
    *("num_hidden_layers", "num_attention_heads", "max_position_embeddings"),
    *("hidden_act", "layer_norm_eps", "bos_token_id", "eos_token_id", "pad_token_id"),
)
PREFIX = "text_model."  # of a text encoder's tensors, in some versions of the library
# what a library raises on a configuration that describes no network
NO_NETWORK = (
    *(ValueError, RuntimeError, TypeError, AttributeError, KeyError),
    *(ZeroDivisionError, NotImplementedError, AssertionError, IndexError),
)


def library(name: str) -> Any:
    """diffusers or transformers, offline. Raises UsageError where it is not installed."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.setdefault(variable, "1")
    try:
        if name == "diffusers":
            import diffusers

            return diffusers
        import transformers

        return transformers
    except ImportError as error:
        why = str(error).splitlines()[0]
        raise UsageError(
            f"model=latent needs {name}: pip install 'diffgeo[latent]' ({why})"
        ) from error


def unet_of(folder: LatentFolder) -> nn.Module:
    """The U-Net, UNet2DConditionModel. Raises UsageError where weights and configuration differ."""
    kind = library("diffusers").UNet2DConditionModel
    return filled(lambda: kind(**plain(folder.unet)), folder, "unet")


def decoder_of(folder: LatentFolder) -> nn.Module:
    """The decoding half of the autoencoder: z [n,C,h,w] -> y [n,3,H,W] about [-1, 1]. Raises as
    `unet_of`."""
    kind = library("diffusers").AutoencoderKL
    whole = filled(lambda: kind(**plain(folder.vae)), folder, "vae")
    parts = [whole.decoder]
    if whole.post_quant_conv is not None:  # use_post_quant_conv
        parts.insert(0, whole.post_quant_conv)
    return nn.Sequential(*parts)


def text_encoder_of(folder: LatentFolder, part: TextPart) -> nn.Module:
    """A text encoder, CLIPTextModel or CLIPTextModelWithProjection. Raises as `unet_of`."""
    transformers = library("transformers")
    options = {key: part.config[key] for key in TEXT_KEYS if key in part.config}
    kinds = {
        "CLIPTextModel": transformers.CLIPTextModel,
        "CLIPTextModelWithProjection": transformers.CLIPTextModelWithProjection,
    }
    kind = kinds[part.kind]
    make = lambda: kind(transformers.CLIPTextConfig(**options))
    return filled(make, folder, part.encoder.name)


def tokenizer_of(folder: LatentFolder, part: TextPart) -> Any:
    """The CLIP tokenizer of a part of a folder. Raises UsageError."""
    return tokenizer_in(part.tokenizer, folder.source(part.tokenizer.name))


def tokenizer_in(folder: Path, source: str) -> Any:
    """The CLIP tokenizer in a folder: words and merges, no weights. Raises UsageError."""
    kind = library("transformers").CLIPTokenizer
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library and the one below it raise what they like
        said = str(error).splitlines() or [type(error).__name__]
        raise UsageError(f"{source} makes no tokenizer: {said[0]}; restore its files") from error


def plain(config: dict) -> dict:
    """A config.json without the library's own entries."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def filled(make: Callable[[], nn.Module], folder: LatentFolder, part: str) -> Any:
    """The network make() with the weights of a part of the folder, strictly, for use alone."""
    return with_weights(make, folder.weights[part], folder.source(part))


def with_weights(make: Callable[[], nn.Module], files: tuple[Path, ...], source: str) -> Any:
    """The network make() with the weights of some files, strictly, for use alone. Raises
    UsageError."""
    try:
        with torch.device("meta"):
            net = make()
    except NO_NETWORK as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise UsageError(f"{source}/config.json describes no network: {said}") from error
    tensors = named_as(net, read_weights(files, source))
    check_fit(net, tensors, source)
    net.load_state_dict(tensors, assign=True)
    for module in net.modules():
        fill_buffers(module, source)
    return net.eval().requires_grad_(False)


def named_as(net: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file under the network's own names of today: attention of the first
    autoencoders, and text encoders with and without their prefix."""
    own = net.state_dict().keys()
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        new = name
        for old, today in OLDER.items():
            new = new.replace(f".{old}.", f".{today}.")
        bare = name.removeprefix(PREFIX)
        names = [candidate for candidate in (name, new, bare, PREFIX + bare) if candidate in own]
        # two tensors of one name: the second is left under its own, where it does not fit
        free = [candidate for candidate in names if candidate not in found]
        found[free[0] if free else name] = tensor
    return found


def fill_buffers(module: nn.Module, source: str) -> None:
    """The buffers that no file holds: CLIP's positions 0, 1, 2, ... Raises UsageError on others."""
    for name, buffer in module.named_buffers(recurse=False):
        if buffer.device.type != "meta":
            continue
        if name != "position_ids":
            raise UsageError(f"{source}: the library's network has a buffer {name}, not known here")
        positions = torch.arange(buffer.shape[-1]).expand(buffer.shape)
        module.register_buffer(name, positions, persistent=False)
