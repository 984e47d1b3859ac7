"""What may stand for a law, and how one is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset

from diffgeo.config.recipe import Recipe, defaults_of, names
from diffgeo.core import Data, Pictures
from diffgeo.data import Cloud, of_dataset
from diffgeo.data.datasets import Dataset
from diffgeo.data.sampled import Draws, Sampled
from diffgeo.errors import UsageError

# a law; what draws from one; an array of points; a set of examples; a name of conf/data
LawLike = Data | Draws | Tensor | np.ndarray | Dataset | TorchDataset | str


def law(what: LawLike, **options: Any) -> Data:
    """A law, of whatever names, holds or draws its samples.

    what:
        a law (`core.Data`)                  itself
        a name, "curve"                      the law of `data=curve` on the command line
        an array [n,d], torch's or numpy's   these points, each with weight 1/n
        an object with `shape` and `sample`  `data.sampled.Sampled` of it: no exact denoiser
        a torch or Hugging Face Dataset      `data.of_dataset` of it: its images or points
    options: of a name, those of its config (`diffgeo help data=curve`): ambient=64, blur=.1; of a
        Dataset, those of `data.of_dataset`: values=(0, 1), size=32.

    Raises UsageError on a name or an option that there is not, and on anything else.

        >>> diffgeo.law("circle", radius=2.0).shape
        (2,)
    """
    if isinstance(what, str):
        return Recipe({"data": what}).make("data", options)
    held = of_one(what)
    if held is None:
        if isinstance(what, Dataset | IterableDataset):
            return of_dataset(what, **options)
        raise UsageError(
            f"{what!r:.40} is no law: give an object with shape and sample(n, generator), an array "
            "[n,d] of points, a Dataset, or a name such as 'curve'"
        )
    if options:
        raise UsageError(
            f"law({type(what).__name__}) takes no {', '.join(options)}: they are options of a name "
            "or of a Dataset"
        )
    return held


def of_one(what: object) -> Data | None:
    """The law that an object is, draws or holds as an array; None of anything else."""
    if isinstance(what, Data):
        return what
    if isinstance(what, Tensor | np.ndarray):
        return Cloud(points=what)
    return Sampled(what) if isinstance(what, Draws) else None


def seen_as_images(data: Data) -> bool:
    """Whether a law is treated as one of images: its samples are [C,H,W]."""
    return isinstance(data, Pictures) or len(data.shape) == 3


def slots_for(data: Data) -> dict[str, object]:
    """What conf/ chooses for a law: its network, trainer, levels, sampler. {slot: name}."""
    if not seen_as_images(data):
        return dict(defaults_of(images=False))
    name = data.name if isinstance(data, Pictures) else None
    slots: dict[str, object] = dict(defaults_of(images=True, law=name))
    if slots["net"] == defaults_of(images=False)["net"]:  # no set that conf/data knows
        own = f"unet_{data.shape[-1]}"
        slots["net"] = own if own in names("net") else "unet_32"
    if not isinstance(data, Pictures):  # numbers that no metric of pictures reads
        slots["metrics"] = defaults_of(images=False)["metrics"]
    return slots
