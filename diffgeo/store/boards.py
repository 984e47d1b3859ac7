"""The boards that scalars, figures and samples are shown on: Weights & Biases and TensorBoard. Each
is a `store.logger.Logger`, whose library is imported when it is made."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from diffgeo.errors import DiffgeoError
from diffgeo.machine.libraries import needed
from diffgeo.store.caches import need_home

WEIGHTS = "model.safetensors"
TENSORBOARD = "diffgeo[tensorboard]"  # what pip is given


class Wandb:
    """A Weights & Biases run: config, scalars, figures, and a table of the first 1 000 samples.

    mode: online, offline or disabled.
    name, group: of the run there; None: the folder's name, and no group.
    artifacts: whether the weights of every checkpoint are kept there too, as versions of one
        artifact.
    """

    def __init__(
        self,
        folder: Path,
        config: dict,
        mode: str,
        project: str,
        name: str | None,
        entity: str | None,
        group: str | None = None,
        artifacts: bool = False,
    ):
        os.environ.setdefault("WANDB_SILENT", "true")
        # seconds; a busy machine starts its service slowly
        os.environ.setdefault("WANDB__SERVICE_WAIT", "300")
        need_home()
        wandb = needed("wandb", "logger=wandb", "wandb")
        self.wandb = wandb
        self.artifacts = artifacts
        # the same for a folder taken up again, so that its run goes on
        identity = hashlib.sha256(str(Path(folder).resolve()).encode()).hexdigest()[:16]
        try:
            self.run = wandb.init(
                project=project,
                entity=entity,
                name=name or Path(folder).name,
                group=group,
                config=config,
                dir=str(folder),
                mode=mode,
                id=identity,
                resume="allow",
            )
        except Exception as error:
            raise DiffgeoError(
                f"Weights & Biases did not start ({error}); write logger.mode=offline, or "
                "logger=jsonl"
            ) from error

    def log(self, step: int, scalars: dict[str, float]) -> None:
        self.run.log(scalars, step=step)

    def speed(self, step: int, rates: dict[str, float]) -> None:
        self.run.log({f"speed/{name}": value for name, value in rates.items()}, step=step)

    def figure(self, name: str, path: Path) -> None:
        self.run.log({f"figures/{name}": self.wandb.Image(str(path))})

    def checkpoint(self, step: int, folder: Path) -> None:
        if not self.artifacts:
            return
        artifact = self.wandb.Artifact(
            f"weights-{self.run.id}", type="model", metadata={"step": step}
        )
        # a copy: the file is replaced by the next checkpoint, maybe before it is sent
        artifact.add_file(str(folder / WEIGHTS), name=WEIGHTS, policy="mutable")
        self.run.log_artifact(artifact, aliases=["latest", f"step-{step}"])

    def finish(self, summary: dict[str, float], samples) -> None:
        self.run.summary.update(summary)
        if samples.ndim == 2 and samples.shape[1] <= 16:
            columns = [f"x{i + 1}" for i in range(samples.shape[1])]
            table = self.wandb.Table(columns=columns, data=samples[:1000].tolist())
            self.run.log({"samples": table})
        self.run.finish()


class TensorBoard:
    """Event files in `folder`/tensorboard: scalars, figures, the config as text; the metrics, under
    metrics/, at the last step.

    step: what the run is taken up at: whoever reads the files leaves out what an earlier process
        wrote beyond it.
    """

    def __init__(self, folder: Path, config: dict, step: int = 0):
        needed("tensorboard", "logger=tensorboard", TENSORBOARD)
        from torch.utils.tensorboard import SummaryWriter

        place = str(Path(folder) / "tensorboard")
        self.step = step
        self.writer = SummaryWriter(place, purge_step=step + 1 if step else None)
        if not step:
            text = json.dumps(config, indent=2)
            self.writer.add_text("config", re.sub("^", "    ", text, flags=re.MULTILINE), 0)

    def log(self, step: int, scalars: dict[str, float]) -> None:
        self.step = step
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def speed(self, step: int, rates: dict[str, float]) -> None:
        self.log(step, {f"speed/{name}": value for name, value in rates.items()})

    def figure(self, name: str, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self.writer.add_image(f"figures/{name}", pixels, self.step, dataformats="HWC")

    def checkpoint(self, step: int, folder: Path) -> None:
        self.writer.flush()

    def finish(self, summary: dict[str, float], samples) -> None:
        self.log(self.step, {f"metrics/{name}": value for name, value in summary.items()})
        self.writer.close()
