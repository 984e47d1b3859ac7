"""A diffusers folder (google/ddpm-cifar10-32): config.json, scheduler_config.json and weights.

The network becomes a `UNet` by renaming (`names`), or runs in the library itself. A prediction of
the noise is `Epsilon` and one of v or x0 is `V` or `CEM`. Every key of the two configurations is
honoured or refused by name: config.json here, scheduler_config.json in
`schedule.scheduler_config`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from diffgeo.core import Data, Parameterization
from diffgeo.denoiser import Network
from diffgeo.errors import DiffgeoError, UsageError
from diffgeo.nn.embedding import Sinusoidal
from diffgeo.nn.unet import UNet
from diffgeo.parameterization import CEM, Epsilon, V
from diffgeo.pretrained.ddpm import Index
from diffgeo.pretrained.names import DIFFUSERS, OLDER, load, renamed
from diffgeo.pretrained.weights import check_images, fitted, frozen, read
from diffgeo.schedule.discrete import Discrete
from diffgeo.schedule.scheduler_config import SchedulerConfig, read_scheduler
from diffgeo.store.files import read_json

LANDMARK = "time_embedding.linear_1.weight"
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
MOST_LAYERS = 100  # of a block: each is made before it is compared with the weights
# What `UNet` does, where diffusers leaves a choice: option -> the values that say so.
OURS = {
    "act_fn": ("silu", "swish"),
    "center_input_sample": (False,),
    "mid_block_scale_factor": (1,),
    "add_attention": (True,),
    "attn_norm_num_groups": (None,),
    "time_embedding_dim": (None,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "mid_block_type": ("UNetMidBlock2D",),
    "resnet_time_scale_shift": ("default",),
    "downsample_padding": (0, 1),
}
# What a network of discrete time without classes is, whoever runs it.
NEEDED = {
    "time_embedding_type": ("positional",),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
}
# numbers: option -> (its default, the least that it may be, whether it is a whole number)
NUMBERS = {
    "in_channels": (3, 1, True),
    "out_channels": (3, 1, True),
    "layers_per_block": (2, 1, True),
    "norm_num_groups": (32, 1, True),
    "norm_eps": (1e-5, 0, False),
    "dropout": (0.0, 0, False),  # not in effect: the network is not trained any further
    "freq_shift": (0, 0, True),
}
KNOWN = {
    *OURS,
    *NEEDED,
    *NUMBERS,
    "sample_size",
    "block_out_channels",
    "down_block_types",
    "up_block_types",
    "attention_head_dim",
    "flip_sin_to_cos",
    "num_train_timesteps",  # of learned embeddings alone
}


class FolderNetwork(Network):
    """The network of a folder, and the scheduler that samples are to follow: None where sampler=
    and loop= are free to do as they like."""

    scheduler: SchedulerConfig | None = None
    folder: str = ""


class Theirs(nn.Module):
    """A UNet2DModel, called as our networks are."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        return self.net(x, noise, label).sample


def diffusers(
    data: Data,
    net=None,
    *,
    folder: str | None = None,
    implementation: str = "diffgeo",
    scheduler: str = "whole",
    **unused,
) -> Network:
    """The UNet2DModel of a local diffusers folder (config.json and weights, in it or in unet/).

    implementation: `diffgeo` loads it into our U-Net, `diffusers` runs it through the library
        itself (the extra [pretrained]); they agree to 1e-5.
    scheduler: `whole` holds sampler= and loop= to all that scheduler_config.json says, `levels`
        takes from it what the network was trained on and no more. Without the file they are DDPM's
        levels.
    Raises UsageError when the folder is not one, or is for other images, or says what cannot be
    honoured.
    """
    if implementation not in ("diffgeo", "diffusers"):
        raise UsageError(f"model.implementation={implementation}: write diffgeo or diffusers")
    if scheduler not in ("whole", "levels"):
        raise UsageError(f"model.scheduler={scheduler}: write whole or levels")
    if folder is None:
        raise UsageError(
            "model=diffusers needs model.folder=FOLDER, with config.json and the weights"
        )
    top = Path(folder)
    where = top / "unet" if (top / "unet" / "config.json").is_file() else top
    source = f"model.folder={folder}"
    config = network_config(where, source)
    size = config.get("sample_size")
    channels = config["in_channels"]
    check_images(data, channels, (size, size) if isinstance(size, int) else size, source)
    out = config["out_channels"]
    if out != channels:
        raise UsageError(
            f"{source} predicts {out} channels of {channels}, a variance beside the noise: write a "
            "network that predicts the noise alone"
        )
    trained = read_scheduler(where)
    if scheduler == "whole" and trained.says and trained.grid is None:
        raise UsageError(f"{trained.unlaid}: write model.scheduler=levels, and steps with sampler=")
    if implementation == "diffgeo":
        check_ours(config, source)
    tensors = folder_tensors(where)
    module: nn.Module
    if implementation == "diffusers":
        module = Theirs(
            fitted(lambda: library_network(config, source), lambda net: tensors, source)
        )
    else:
        module = load(
            lambda: our_network(config, tuple(data.shape)),
            tensors,
            source,
            lambda name: renamed(name, DIFFUSERS),
        )
    index = Index(Discrete(betas=trained.betas))
    denoise = frozen(module, PREDICTS[trained.predicts](index), FolderNetwork)
    denoise.folder = folder
    denoise.scheduler = trained if scheduler == "whole" else None
    return denoise


def network_config(where: Path, source: str) -> dict:
    """config.json, its numbers checked and filled in. Raises UsageError with the first key that is
    unknown or means a network of another kind."""
    try:
        config = read_json(where / "config.json")
    except (DiffgeoError, RecursionError) as error:
        raise UsageError(
            f"{source} is no diffusers folder: it has no readable config.json, nor has its unet/"
        ) from error
    blocks = ("down_block_types", "up_block_types", "block_out_channels")
    for key in blocks:
        if not isinstance(config, dict) or not isinstance(config.get(key), list) or not config[key]:
            raise UsageError(
                f"{source}: its config.json has no {key}, so it is not that of a UNet2DModel: "
                "write the folder of one"
            )
    kind = config.get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise UsageError(f"{source}: _class_name={kind}; write the folder of a UNet2DModel")
    for key in config:
        if not key.startswith("_") and key not in KNOWN:
            raise UsageError(
                f"{source}: {key}={config[key]} in its config.json is unknown to diffgeo, which "
                "does not skip it: write the folder of a UNet2DModel"
            )
    needed = "that of a network told the index of a level and no class; write another folder"
    check_choices(config, NEEDED, source, needed)
    filled = dict(config)
    for key, (default, least, whole) in NUMBERS.items():
        value = filled.setdefault(key, default)
        wanted = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, wanted) or not value >= least:
            raise UsageError(
                f"{source}: {key}={value} in its config.json: write a "
                f"{'whole ' if whole else ''}number from {least}"
            )
    if filled["layers_per_block"] > MOST_LAYERS:
        raise UsageError(f"{source}: layers_per_block is above {MOST_LAYERS}; write another folder")
    check_shapes(filled, source)
    return filled


def check_choices(config: dict, choices: dict[str, tuple], source: str, what: str) -> None:
    """Raise UsageError where a key has another value than one of its choices."""
    for key, values in choices.items():
        if key in config and config[key] not in values:
            raise UsageError(f"{source}: {key}={config[key]} is not {what}")


def check_shapes(config: dict, source: str) -> None:
    """Raise UsageError on lists and sizes that describe no network."""
    widths = config["block_out_channels"]
    if not all(isinstance(width, int) and width > 0 for width in widths):
        raise UsageError(f"{source}: block_out_channels={widths}: write whole numbers from 1")
    for key in ("down_block_types", "up_block_types"):
        if len(config[key]) != len(widths):
            raise UsageError(
                f"{source}: {key} has {len(config[key])} entries and block_out_channels "
                f"{len(widths)}: write as many"
            )
    head = config.get("attention_head_dim", 8)
    if head is not None and not (isinstance(head, int) and head > 0):
        raise UsageError(f"{source}: attention_head_dim={head}: write null, or a number from 1")
    if not isinstance(config.get("flip_sin_to_cos", True), bool):
        raise UsageError(
            f"{source}: flip_sin_to_cos={config['flip_sin_to_cos']}: write true or false"
        )
    size = config.get("sample_size")
    if isinstance(size, list) and len(size) == 2 and all(isinstance(s, int) for s in size):
        config["sample_size"] = tuple(size)
    elif size is not None and not isinstance(size, int):
        raise UsageError(f"{source}: sample_size={size}: write null, one number or two")


def check_ours(config: dict, source: str) -> None:
    """Raise UsageError where diffgeo's `UNet` cannot be what a config.json describes."""
    theirs = "write model.implementation=diffusers"
    check_choices(config, OURS, source, f"what diffgeo's U-Net does; {theirs}")
    downs = config["down_block_types"]
    ups = config["up_block_types"]
    strange = [str(kind) for kind in [*downs, *ups] if str(kind) not in ATTENDS]
    if strange or [ATTENDS[k] for k in downs] != [ATTENDS[k] for k in reversed(ups)]:
        raise UsageError(
            f"{source}: diffgeo's U-Net has no blocks {', '.join(strange or ups)}; {theirs}"
        )
    widths = config["block_out_channels"]
    if any(width % widths[0] for width in widths):
        raise UsageError(
            f"{source}: block_out_channels={widths} are no multiples of the first, as diffgeo's "
            f"U-Net has them; {theirs}"
        )


def our_network(config: dict, shape: tuple[int, ...]) -> UNet:
    """The `UNet` that a UNet2DModel's config.json describes, `check_ours` passed."""
    widths = config["block_out_channels"]
    channels = widths[0]
    downs = config["down_block_types"]
    net = UNet(
        shape,
        channels,
        mult=[width // channels for width in widths],
        blocks=config["layers_per_block"],
        attention=[max(shape[1:]) >> i for i, kind in enumerate(downs) if ATTENDS[kind]],
        head=config.get("attention_head_dim", 8),
        dropout=config["dropout"],
        groups=config["norm_num_groups"],
        eps=config["norm_eps"],
        embedding="sinusoidal",
        symmetric=config.get("downsample_padding", 1) == 1,
    )
    flip = config.get("flip_sin_to_cos", True)
    net.level = Sinusoidal(channels // 2, shift=config["freq_shift"], flip=flip)
    return net


def library_network(config: dict, source: str) -> nn.Module:
    """The network that the library itself makes of a config.json, without weights."""
    try:
        from diffusers import UNet2DModel
    except ImportError as error:
        raise UsageError(
            "model.implementation=diffusers needs the library: pip install 'diffgeo[pretrained]', "
            "or write diffgeo"
        ) from error
    options = {key: value for key, value in config.items() if not key.startswith("_")}
    try:
        return UNet2DModel(**options)
    except (ValueError, RuntimeError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise UsageError(
            f"{source}: diffusers makes no network of its config.json: "
            f"{(str(error) or type(error).__name__).splitlines()[0]}; write another folder"
        ) from error


def folder_tensors(folder: Path) -> dict[str, Tensor]:
    """The weights in a diffusers folder, under diffusers' names of today."""
    file = folder / "diffusion_pytorch_model.safetensors"
    older = folder / "diffusion_pytorch_model.bin"
    if older.is_file() and not file.is_file():
        file = older
    tensors = {}
    for name, tensor in read(file, "model.folder", LANDMARK).items():
        for old, new in OLDER.items():
            name = name.replace(f".{old}.", f".{new}.")
        tensors[name] = tensor
    return tensors
