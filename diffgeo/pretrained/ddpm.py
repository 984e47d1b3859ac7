"""DDPM's network in its two published forms: a diffusers folder (google/ddpm-cifar10-32), and the
.ckpt of DDIM's and PNDM's code.

Both become a `UNet` by renaming: the tables in `names` are all that there is to it. The network
sees x/sqrt(1 + sigma^2), so a prediction of the noise is `Epsilon` and one of v or x0 is `V` or
`CEM`, with the index t(sigma) in the place of the conditioning scalar.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from diffgeo.core import Data, Parameterization
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.nn.embedding import Sinusoidal
from diffgeo.nn.unet import UNet
from diffgeo.parameterization import CEM, Epsilon, V
from diffgeo.pretrained.names import DDIM, DIFFUSERS, OLDER, load, renamed
from diffgeo.pretrained.weights import check_images, frozen, read
from diffgeo.schedule.discrete import (
    Betas,
    CosineBetas,
    Discrete,
    LinearBetas,
    ScaledLinearBetas,
    SigmoidBetas,
)
from diffgeo.schedule.rounding import TIE
from diffgeo.store.files import read_json


@dataclass(frozen=True)
class Index:
    """The conditioning scalar of a discrete-time network: t(sigma) in [0, T-1] of the levels it was
    trained on, [B] -> [B].

    Whole at a trained level, whatever rounding errors sigma has; between two of them log sigma is
    interpolated.
    """

    trained: Discrete

    def __call__(self, sigma: Tensor) -> Tensor:
        t = self.trained.t(sigma.double())
        whole = t.round()
        t = torch.where((t - whole).abs() < TIE, whole, t)
        return t.clamp(0, self.trained.t_max).to(sigma)


@dataclass(frozen=True)
class Given:
    """Betas as a file lists them."""

    betas: tuple[float, ...]

    @property
    def T(self) -> int:
        return len(self.betas)

    def __call__(self) -> Tensor:
        return torch.tensor(self.betas, dtype=torch.float64)


# a diffusers folder

LAYS = {"linear": LinearBetas, "scaled_linear": ScaledLinearBetas, "sigmoid": SigmoidBetas}
PREDICTS: dict[str, Callable[..., Parameterization]] = {
    "epsilon": Epsilon,
    "v_prediction": V,
    "sample": CEM,
}
# whether a block of theirs has attention
ATTENDS = {
    "DownBlock2D": False,
    "AttnDownBlock2D": True,
    "UpBlock2D": False,
    "AttnUpBlock2D": True,
}
# What `UNet` does, where diffusers leaves a choice: option -> the values that say so.
SUPPORTED = {
    "act_fn": ("silu", "swish"),
    "time_embedding_type": ("positional",),
    "center_input_sample": (False,),
    "mid_block_scale_factor": (1,),
    "add_attention": (True,),
    "attn_norm_num_groups": (None,),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "mid_block_type": ("UNetMidBlock2D",),
    "resnet_time_scale_shift": ("default",),
    "downsample_padding": (0, 1),
}


def scheduler(folder: Path) -> tuple[Betas, str]:
    """(betas, what the network predicts) of scheduler_config.json beside or above the network;
    DDPM's own when there is none."""
    file = folder / "scheduler_config.json"
    if not file.is_file():
        file = folder.parent / "scheduler" / "scheduler_config.json"
    config = read_json(file) if file.is_file() else {}
    T = config.get("num_train_timesteps", 1000)
    kind = config.get("beta_schedule", "linear")
    predicts = config.get("prediction_type", "epsilon")
    if predicts not in PREDICTS:
        raise UsageError(
            f"{file}: prediction_type {predicts} is unknown; it may be {', '.join(PREDICTS)}"
        )
    if config.get("trained_betas"):
        return Given(tuple(map(float, config["trained_betas"]))), predicts
    if kind == "squaredcos_cap_v2":
        return CosineBetas(T=T), predicts
    if kind not in LAYS:
        raise UsageError(
            f"{file}: beta_schedule {kind} is unknown; it may be "
            f"{', '.join([*LAYS, 'squaredcos_cap_v2'])}"
        )
    first = config.get("beta_start", 1e-4)
    last = config.get("beta_end", 0.02)
    return LAYS[kind](T=T, first=first, last=last), predicts


def of_config(config: dict, shape: tuple[int, ...], source: str) -> UNet:
    """The `UNet` that a UNet2DModel's config.json describes. Raises UsageError where ours cannot be
    it."""
    for name, values in SUPPORTED.items():
        if name in config and config[name] not in values:
            raise UsageError(
                f"{source}: {name}={config[name]} is not what diffgeo's U-Net does; write "
                "model.implementation=diffusers"
            )
    for key in ("down_block_types", "up_block_types", "block_out_channels"):
        if not config.get(key):
            raise UsageError(
                f"{source}: its config.json has no {key}, so it is not that of a UNet2DModel: "
                "write the folder of one"
            )
    downs = config["down_block_types"]
    ups = config["up_block_types"]
    strange = [kind for kind in [*downs, *ups] if kind not in ATTENDS]
    if strange or [ATTENDS[k] for k in downs] != [ATTENDS[k] for k in reversed(ups)]:
        raise UsageError(
            f"{source}: diffgeo's U-Net has no blocks {', '.join(strange or ups)}; write "
            "model.implementation=diffusers"
        )
    widths = config["block_out_channels"]
    channels = widths[0]
    net = UNet(
        shape,
        channels,
        mult=[width // channels for width in widths],
        blocks=config.get("layers_per_block", 2),
        attention=[max(shape[1:]) >> i for i, kind in enumerate(downs) if ATTENDS[kind]],
        head=config.get("attention_head_dim", 8),
        dropout=config.get("dropout", 0.0),
        groups=config.get("norm_num_groups", 32),
        eps=config.get("norm_eps", 1e-5),
        embedding="sinusoidal",
        symmetric=config.get("downsample_padding", 1) == 1,
    )
    shift = config.get("freq_shift", 0)
    flip = config.get("flip_sin_to_cos", True)
    net.level = Sinusoidal(channels // 2, shift=shift, flip=flip)
    return net


class Theirs(nn.Module):
    """A UNet2DModel, called as our networks are."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        return self.net(x, noise, label).sample


def diffusers(
    data: Data, net=None, *, folder: str | None = None, implementation: str = "diffgeo", **unused
) -> Network:
    """The UNet2DModel of a local diffusers folder (config.json and weights, in it or in unet/).

    implementation: `diffgeo` loads it into our U-Net, `diffusers` runs it through the library
    itself (the extra [pretrained]); they agree to 1e-5. Betas and what is predicted are read from
    scheduler_config.json; without it they are DDPM's.
    Raises UsageError when the folder is not one, or is for other images.
    """
    if implementation not in ("diffgeo", "diffusers"):
        raise UsageError(f"model.implementation={implementation}: write diffgeo or diffusers")
    if folder is None:
        raise UsageError(
            "model=diffusers needs model.folder=FOLDER, with config.json and the weights"
        )
    top = Path(folder)
    where = top / "unet" if (top / "unet" / "config.json").is_file() else top
    source = f"model.folder={folder}"
    try:
        config = read_json(where / "config.json")
    except DiffgeoError as error:
        raise UsageError(
            f"{source} is no diffusers folder: it has no readable config.json, nor has its unet/"
        ) from error
    size = config.get("sample_size")
    channels = config.get("in_channels", 3)
    size = (size, size) if isinstance(size, int) else size
    check_images(data, channels, size and tuple(size), source)
    out = config.get("out_channels", 3)
    if out != channels:
        raise UsageError(
            f"{source} predicts {out} channels of {channels}, a variance beside the noise: write a "
            "network that predicts the noise alone"
        )
    betas, predicts = scheduler(where)
    if implementation == "diffusers":
        module = through_diffusers(where, source)
    else:
        module = of_config(config, tuple(data.shape), source)
        load(module, folder_tensors(where), source, lambda name: renamed(name, DIFFUSERS))
    return frozen(module, PREDICTS[predicts](Index(Discrete(betas=betas))))


def folder_tensors(folder: Path) -> dict[str, Tensor]:
    """The weights in a diffusers folder, under diffusers' names of today."""
    file = folder / "diffusion_pytorch_model.safetensors"
    older = folder / "diffusion_pytorch_model.bin"
    if older.is_file() and not file.is_file():
        file = older
    tensors = {}
    for name, tensor in read(file, "model.folder").items():
        for old, new in OLDER.items():
            name = name.replace(f".{old}.", f".{new}.")
        tensors[name] = tensor
    return tensors


def through_diffusers(where: Path, source: str) -> nn.Module:
    """The network as the library itself runs it."""
    try:
        from diffusers import UNet2DModel
    except ImportError as error:
        raise UsageError(
            "model.implementation=diffusers needs the library: pip install 'diffgeo[pretrained]', "
            "or write diffgeo"
        ) from error
    safe = (where / "diffusion_pytorch_model.safetensors").is_file()
    try:
        net = UNet2DModel.from_pretrained(
            where, use_safetensors=safe, local_files_only=True, low_cpu_mem_usage=False
        )
        return Theirs(net)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{source} cannot be read by diffusers: {str(error).splitlines()[0]}"
        ) from error


# DDIM's .ckpt


def ddim_checkpoint(
    data: Data, net=None, *, path: str | None = None, betas: Betas = LinearBetas(), **unused
) -> Network:
    """A checkpoint of DDIM's or PNDM's code, such as ddim_cifar10.ckpt: the noise at the levels of
    `betas`.

    All that the network is can be read off the shapes in the file. Raises UsageError when they are
    not those of such a network.
    """
    if path is None:
        raise UsageError("model=ddim_checkpoint needs model.path=FILE.ckpt")
    tensors = read(path, "model.path")
    source = f"model.path={path}"
    if "conv_in.weight" not in tensors or "down.0.block.0.conv1.weight" not in tensors:
        raise UsageError(
            f"{source} is no checkpoint of DDIM's network: it holds "
            f"{', '.join(list(tensors)[:3])}, ..., and no conv_in.weight, "
            "down.0.block.0.conv1.weight"
        )
    channels, images = tensors["conv_in.weight"].shape[:2]
    check_images(data, images, None, source)
    shape = tuple(data.shape)
    blocks = 0
    while f"down.0.block.{blocks}.conv1.weight" in tensors:
        blocks += 1
    mult = []
    attention = []
    levels = 0
    while f"down.{levels}.block.0.conv1.weight" in tensors:
        mult.append(tensors[f"down.{levels}.block.0.conv1.weight"].shape[0] // channels)
        if f"down.{levels}.attn.0.q.weight" in tensors:
            attention.append(max(shape[1:]) >> levels)
        levels += 1
    module = UNet(shape, channels, mult, blocks, attention, embedding="sinusoidal", symmetric=False)

    def theirs(name: str) -> str:
        """Our name as theirs, who count the way up from the finest level."""
        name = re.sub(r"^up\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}", name)
        return renamed(name, DDIM)

    load(module, tensors, source, theirs)
    return frozen(module, Epsilon(Index(Discrete(betas=betas))))
