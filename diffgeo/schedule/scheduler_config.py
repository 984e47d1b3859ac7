"""A diffusers scheduler_config.json: the levels that a network was trained on, what it predicts,
and how diffusers' own sampler would step. Every key of it is honoured or refused by name.

    betas       num_train_timesteps, beta_schedule, beta_start, beta_end, trained_betas,
                rescale_betas_zero_snr
    prediction  prediction_type
    grid        timestep_spacing, steps_offset, set_alpha_to_one, final_sigmas_type,
                use_karras_sigmas:  schedule=diffusers, or folder for latents
    estimate    clip_sample, clip_sample_range:  loop.clip;
                thresholding, dynamic_thresholding_ratio, sample_max_value:  loop.threshold
    noise       variance_type:  the variance of sampler=ddpm
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from diffgeo.errors import UsageError
from diffgeo.schedule.discrete import (
    Betas,
    CosineBetas,
    Discrete,
    LinearBetas,
    ScaledLinearBetas,
    SigmoidBetas,
)
from diffgeo.schedule.of_diffusers import Given, ZeroTerminal
from diffgeo.schedule.scheduler_grid import GRID, PLAIN, STEPPED, GridEntries

NAME = "scheduler_config.json"
PREDICTS = ("epsilon", "v_prediction", "sample")
LAYS = {"linear": LinearBetas, "scaled_linear": ScaledLinearBetas, "sigmoid": SigmoidBetas}
COSINE = "squaredcos_cap_v2"
# variance_type -> sampler.variance
VARIANCES = {
    "fixed_small": "posterior",
    "fixed_small_log": "posterior",  # in diffusers the same number by way of its logarithm
    "fixed_large": "beta",
}
# and all those whose levels are those of DDPMScheduler's defaults
LEVELLED = (*STEPPED, "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler")
LEVELS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
)
ESTIMATE = (
    "clip_sample",
    "clip_sample_range",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
)
# of other samplers' steps, which say nothing of the network
STEPS = (
    *("algorithm_type", "solver_order", "solver_type", "solver_p", "skip_prk_steps"),
    *("lower_order_final", "euler_at_final", "predict_x0", "disable_corrector"),
)
# what has to be so, where it is said at all; None for any value, since it belongs to one of these
FIXED: dict[str, tuple | None] = {
    "use_flow_sigmas": (False,),
    "flow_shift": None,
    "use_dynamic_shifting": (False,),
    "time_shift_type": None,
    "shift_terminal": (None,),
    "timestep_type": ("discrete",),
    # of the first versions of diffusers
    "predict_epsilon": (True,),
    "timestep_values": (None,),
    "tensor_format": ("pt", "np"),
}
KNOWN = {*LEVELS, *GRID, *PLAIN, *ESTIMATE, "variance_type", *STEPS, *FIXED}


@dataclass(frozen=True)
class SchedulerConfig:
    """What a file says.

    source: the file, as messages call it.
    kind: the class of diffusers' that it is of.
    says: its keys, those of "_" left out, with their values.
    grid: the schedule of diffusers' own steps; None where diffgeo does not lay them.
    unlaid: why it does not; "" where it does.
    clip, threshold: as `Loop` has them.
    variance: of sampler=ddpm; None where the file names none.
    """

    source: str
    kind: str
    says: dict
    betas: Betas = LinearBetas()
    predicts: str = "epsilon"
    grid: Discrete | None = None
    unlaid: str = ""
    clip: float | None = None
    threshold: float | None = None
    variance: str | None = None

    def says_any(self, *keys: str) -> bool:
        return any(key in self.says for key in keys)

    def quoted(self, *keys: str) -> str:
        """The keys that the file has, with their values, as it writes them."""
        return " ".join(f"{key}={json.dumps(self.says[key])}" for key in keys if key in self.says)


def located(folder: Path) -> Path | None:
    """The scheduler_config.json that is in a folder, or belongs to it in a pipeline's; None where
    there is none."""
    places = [folder, folder / "scheduler", folder.parent / "scheduler"]
    if folder.name == "unet":
        places.append(folder.parent)
    for place in places:
        if (place / NAME).is_file():
            return place / NAME
    return None


def read_scheduler(folder: Path) -> SchedulerConfig:
    """The scheduler of a folder; DDPM's levels, and a noise predicted, where it has no file. Raises
    UsageError that names a key which cannot be honoured."""
    file = located(folder)
    if file is None:
        return SchedulerConfig(str(folder), STEPPED[0], {})
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{file} cannot be read: {str(error).splitlines()[0]}; restore it, or take it away for "
            "DDPM's levels"
        ) from error
    if not isinstance(config, dict):
        raise UsageError(f"{file} is no scheduler's: write one object, {{...}}")
    return Reader(str(file), config).read()


def folder_schedule(folder: str | None = None) -> Discrete:
    """The grid of diffusers' own steps with the scheduler_config.json of `folder`. Raises
    UsageError where it has none, or one whose steps diffgeo does not lay."""
    if folder is None:
        raise UsageError("schedule=diffusers needs its folder: write schedule.folder=FOLDER")
    top = Path(folder)
    file = located(top)
    if file is None:
        raise UsageError(f"schedule.folder={folder} has no {NAME}: write a folder that has one")
    found = read_scheduler(top)
    if found.grid is None:
        raise UsageError(f"{found.unlaid}: write another schedule, such as ddpm")
    return found.grid


class Reader(GridEntries):
    """The entries of a scheduler_config.json, one kind of them after another. Every method raises
    UsageError with the name of the key that is at fault."""

    def read(self) -> SchedulerConfig:
        self.check_keys()
        betas = self.betas()
        predicts = self.choice("prediction_type", "epsilon", PREDICTS)
        if predicts == "epsilon" and float(betas()[-1]) == 1:
            raise UsageError(
                f"{self.source}: the last level is noise alone (rescale_betas_zero_snr, or a "
                "trained beta of 1), where prediction_type=epsilon divides by alpha = 0; write "
                "v_prediction, or sample, if the network predicts that"
            )
        clip, threshold = self.estimate()
        grid = self.grid(betas)
        unlaid = self.unlaid()
        return SchedulerConfig(
            source=self.source,
            kind=self.kind,
            says={key: value for key, value in self.config.items() if not key.startswith("_")},
            betas=betas,
            predicts=predicts,
            grid=None if unlaid else grid,
            unlaid=unlaid,
            clip=clip,
            threshold=threshold,
            variance=self.variance(),
        )

    def check_keys(self) -> None:
        if self.kind not in LEVELLED:
            self.refuse("_class_name", f"diffgeo reads the levels of {', '.join(LEVELLED)}")
        for key, value in self.config.items():
            if not key.startswith("_") and key not in KNOWN:
                self.refuse(key, "diffgeo does not know this key, and does not skip it")
            wanted = FIXED.get(key)
            if wanted is not None and value not in wanted:
                self.refuse(key, f"diffgeo has {' or '.join(map(json.dumps, wanted))} alone")

    def betas(self) -> Betas:
        T = self.number("num_train_timesteps", 1000, whole=True)
        given = self.config.get("trained_betas")
        kind = self.choice("beta_schedule", "linear", (*LAYS, COSINE))
        betas: Betas
        try:
            if given is not None:
                betas = self.given(given)
            elif kind == COSINE:
                betas = CosineBetas(T=T)
            else:
                first = self.number("beta_start", 1e-4)
                last = self.number("beta_end", 0.02)
                betas = LAYS[kind](T=T, first=first, last=last)
        except UsageError as error:
            said = str(error).replace("betas.first", "beta_start").replace("betas.last", "beta_end")
            raise UsageError(
                f"{self.source}: {said.replace('betas.T', 'num_train_timesteps')}"
            ) from None
        return ZeroTerminal(betas) if self.flag("rescale_betas_zero_snr", False) else betas

    def given(self, listed) -> Given:
        numbers = isinstance(listed, list) and all(
            isinstance(beta, int | float) and not isinstance(beta, bool) for beta in listed
        )
        if not numbers or len(listed) < 2:
            raise UsageError("trained_betas is no list of numbers: write two betas or more")
        for i, beta in enumerate(listed):
            if not (0 < beta < 1 or (beta == 1 and i == len(listed) - 1)):
                raise UsageError(
                    f"trained_betas[{i}]={beta}: write numbers above 0 and below 1, of which the "
                    "last may be 1"
                )
        said = self.config.get("num_train_timesteps")
        if said is not None and said != len(listed):
            raise UsageError(
                f"num_train_timesteps={said}, and trained_betas has {len(listed)} entries: write "
                "as many"
            )
        return Given(tuple(map(float, listed)))

    def estimate(self) -> tuple[float | None, float | None]:
        """(clip, threshold) of the denoised estimate; diffusers thresholds in the place of
        clipping."""
        clip = self.number("clip_sample_range", 1.0)
        ratio = self.number("dynamic_thresholding_ratio", 0.995)
        largest = self.number("sample_max_value", 1.0)
        clips = self.flag("clip_sample", False)
        if clips and not clip > 0:
            self.refuse("clip_sample_range", "write a number above 0")
        if not self.flag("thresholding", False):
            return (clip if clips else None), None
        if largest == 1:  # its scale s lies in [1, 1]: nothing is left but to clip
            return 1.0, None
        if not largest > 1:
            self.refuse("sample_max_value", "write a number from 1")
        return None, ratio

    def variance(self) -> str | None:
        said = self.config.get("variance_type")
        if said is None:
            return None
        return VARIANCES[self.choice("variance_type", "fixed_small", tuple(VARIANCES))]
