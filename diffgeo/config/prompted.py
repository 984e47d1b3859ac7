"""`prompts=`: what each sample of model=latent is told, and how many samples there are.

Sample i is told prompt i of the file; `n` is the number of prompts where it is open, less `first`.
What a model of latents cannot do is refused here, before anything is drawn or written: a class, a
bound on the values of latents, a sampler that lets some samples go ahead of others.
"""

from __future__ import annotations

from omegaconf import DictConfig

from diffgeo.config import kinds
from diffgeo.core import Data, Denoiser, Fitted, Sampler
from diffgeo.errors import UsageError
from diffgeo.pretrained.latent.condition import Prompted
from diffgeo.pretrained.latent.dit import LatentClassNetwork
from diffgeo.pretrained.latent.latents import NO_LAW, Latents
from diffgeo.pretrained.latent.model import LatentNetwork
from diffgeo.pretrained.latent.prompts import read_prompts
from diffgeo.simulation import Loop

# keys of a scheduler that bound the estimate of x0
CLIPS = ("clip_sample", "clip_sample_range", "thresholding", "sample_max_value")


def check_slots(cfg: DictConfig) -> None:
    """Raise UsageError where a config has the options of latents and a model of none."""
    if "guidance_rescale" in cfg and "folder" not in cfg.model:
        raise UsageError(
            "data=latents are what model=latent leaves: write model=latent, or model=dit"
        )


def check_law(data: Data) -> None:
    """Raise UsageError where a command needs a law and there are latents."""
    if isinstance(data, Latents):
        raise UsageError(NO_LAW)


def of_latents(model: Denoiser, data: Data) -> bool:
    """Whether a model is one of latents that is told prompts. Raises UsageError where the data are
    others than its own, or are latents and the model is another."""
    own = isinstance(model, LatentNetwork | LatentClassNetwork)
    if own and not isinstance(data, Latents):
        raise UsageError("a model of latents brings its own data: leave data= out")
    if isinstance(data, Latents) and not own:
        raise UsageError(
            "data=latents are what model=latent leaves: write model=latent, or model=dit"
        )
    return isinstance(model, LatentNetwork)


def check_classed(cfg: DictConfig, model: Denoiser, sampler: Sampler, loop: Loop) -> None:
    """Raise UsageError where a model of latents that is told a class is asked for what only
    prompts have."""
    if not isinstance(model, LatentClassNetwork):
        return
    check_sampler(sampler)
    check_loop(model, loop)
    for key in ("prompts", "negative"):
        if cfg.get(key) is not None:
            raise UsageError(f"{key}= is for prompts, and model=dit is told a class: write label=")
    if cfg.get("guidance_rescale"):
        raise UsageError("guidance_rescale= is for prompts, and model=dit is told a class")
    if cfg.n is None:
        raise UsageError("model=dit: write n=, the number of samples")


def prompted(cfg: DictConfig, model: Denoiser, sampler: Sampler, loop: Loop) -> Prompted:
    """The prompts of the samples that a config asks for; sets cfg.n where it is open. Raises
    UsageError."""
    assert isinstance(model, LatentNetwork)
    check_options(cfg, sampler)
    check_loop(model, loop)
    if cfg.get("prompts") is None:
        raise UsageError(
            "model=latent is told prompts: write prompts=FILE, a prompt a line, or COCO's captions "
            "json"
        )
    prompts = read_prompts(cfg.prompts)
    cfg.n = number(cfg, len(prompts.texts))
    guidance = kinds.plain("guidance", cfg.guidance, float)
    rescale = kinds.plain("guidance_rescale", cfg.guidance_rescale, float)
    condition = Prompted(prompts, model, guidance, rescale)
    first = cfg.get("first", 0)
    condition.check(range(first, first + cfg.n))  # says which prompts are cut
    return condition


def number(cfg: DictConfig, prompts: int) -> int:
    """How many samples there are. Raises UsageError where there are fewer prompts."""
    first = cfg.get("first", 0)
    left = prompts - first
    if left < 1:
        raise UsageError(
            f"first={first}: {cfg.prompts} holds {prompts} prompts, 0 to {prompts - 1}"
        )
    n = left if cfg.n is None else cfg.n
    if n > left:
        begun = f", {first} of them before first={first}" if first else ""
        raise UsageError(
            f"n={n}: {cfg.prompts} holds {prompts} prompts{begun}, and sample i has prompt i: "
            f"write n={left} or less, or more prompts"
        )
    return n


def check_options(cfg: DictConfig, sampler: Sampler) -> None:
    """Raise UsageError on an option, or a sampler, that a model of latents has no use for."""
    if cfg.get("label") is not None:
        raise UsageError(
            f"label={cfg.label} is a class, and model=latent is told prompts: leave label= out"
        )
    if sampler.adaptive:
        raise UsageError(
            "prompts=: an adaptive sampler lets some samples go ahead of others; write another "
            "sampler"
        )
    check_sampler(sampler)


def check_sampler(sampler: Sampler) -> None:
    """Raise UsageError on a sampler that needs a law."""
    if isinstance(sampler, Fitted):
        raise UsageError(
            "this sampler measures the law before it samples, and latents have none: write another "
            "sampler"
        )


def check_loop(model: LatentNetwork | LatentClassNetwork, loop: Loop) -> None:
    """Raise UsageError where the loop bounds the values of latents, which have none, unless the
    folder's scheduler asks for it; and where it asks and the loop does not."""
    asked = model.folder.scheduler
    if asked.threshold is not None:
        raise UsageError(
            f"{asked.source} says thresholding, which latents do not take: take it out"
        )
    if loop.threshold is not None:
        raise UsageError("latents have no largest value: leave loop.threshold= out")
    if loop.ball is not None:
        raise UsageError("latents lie in no known ball: leave loop.ball= out")
    if loop.clip == asked.clip:
        return
    if asked.clip is None:
        raise UsageError(
            f"loop.clip={loop.clip:g}: latents go beyond any such bound (clipped to 1 they keep a "
            "sixteenth of their size): leave it out"
        )
    raise UsageError(
        f"{asked.source} says {asked.quoted(*CLIPS)}, and the command does otherwise: write "
        f"loop.clip={asked.clip:g}"
    )
