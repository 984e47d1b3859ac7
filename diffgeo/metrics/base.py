"""What a metric is by default: a number of a cloud, shown in the table, with a noise floor.

    @dataclass(frozen=True)
    class Spread(Measure):
        def __call__(self, run, data):
            return {"spread/rms": float(run.samples.std())}

is a whole metric. `core.Metric` says what each attribute means.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from diffgeo.core import Data, Known, Pictures, Run
from diffgeo.errors import UsageError


class Measure(ABC):
    """A `core.Metric` that reads no file, needs no run, tells nothing of itself, and has floors."""

    needs_run: bool = False
    prefix: str | None = None
    cheap: bool = False  # a floor of many pairs costs little
    # which way a value is better, by pattern: {"mine/*": "less"}, or "more", "near"
    better: Mapping[str, str] = {}

    @property
    def floors(self) -> bool:
        """Whether fresh true samples have a value: `floors = False` in a class whose have none."""
        return True

    @property
    def identity(self) -> str | None:
        """A digest of the files that the values depend on."""
        return None

    @abstractmethod
    def __call__(self, run: Run, data: Data) -> dict[str, float]:
        """The values by name, "group/name"; {} where the law or the run lacks what is needed."""

    def prepare(self, data: Data, n: int) -> None:
        """Load what the metric of n samples will need. Raises UsageError on what is missing: here a
        law, which a model of latents has not."""
        if isinstance(data, Pictures) and not isinstance(data, Known):
            raise UsageError(
                f"a {type(self).__name__} is held against a law, and these pictures have none: "
                "write metrics=none, metrics=clip, or metrics=fid metrics.fid.reference=FOLDER"
            )

    def steady(self, key: str, n: int) -> bool:
        """Whether the value of `key` of n samples and that of more are comparable: they differ by
        chance alone. A share is so, a W2, whose floor falls with n, is not."""
        return False

    def describe(self, run: Run, data: Data) -> dict:
        """What makes the values comparable, JSON-able."""
        return {}

    def text(self, values: Mapping[str, float]) -> str:
        """The values whose names begin with `prefix`, as a reader sees them."""
        return ""
