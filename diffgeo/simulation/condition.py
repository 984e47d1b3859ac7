"""What sample i is told: here its class. A measurement of its own, or a prompt, is another
condition (`core.Condition`); what can be said in words is `Worded`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Protocol, runtime_checkable

from diffgeo.core import Condition, Denoiser, Sampler
from diffgeo.denoiser import Guided, Labelled
from diffgeo.errors import UsageError


@runtime_checkable
class Worded(Condition, Protocol):
    """A condition that can say what a sample is told: its prompt."""

    def words(self, numbers: range) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class ClassLabel:
    """Which class a sample has, and how strongly the model is told.

    label: None, no class; a number 0..classes-1; or `all`, by which the samples go through the
        classes in turn: sample i has class i mod classes, or entry i mod len(among) of `among`.
    guidance: the scale of classifier-free guidance (Ho and Salimans 2022),
        D(null) + guidance (D(label) - D(null)); 1: D(label).
    classes: how many the model knows.
    among: those that the law has, increasing (data.only=[3,8] leaves two); None: all of them.
    Raises UsageError on what the model cannot be told.
    """

    label: int | str | None = None
    guidance: float = 1.0
    classes: int = 0
    among: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.label is None and self.guidance != 1:
            raise UsageError(
                f"guidance={self.guidance:g} leads towards a class: write label=0, another class, "
                "or label=all"
            )
        if self.label is not None and not self.classes:
            raise UsageError(
                f"label={self.label}: this model knows no classes; "
                "write label=null, or train one with net.classes=K"
            )
        one_class = type(self.label) is int and 0 <= self.label < self.classes
        if self.label not in (None, "all") and not one_class:
            raise UsageError(
                f"label={self.label}: write null, all, or a class from 0 to {self.classes - 1}"
            )
        if one_class and self.among is not None and self.label not in self.among:
            there = ", ".join(map(str, self.among))
            raise UsageError(
                f"label={self.label}: data= has no image of that class here; write label=null, "
                f"all, or one of {there}"
            )

    def labels(self, numbers: range, device: torch.device | str = "cpu") -> Tensor | None:
        """The classes of the samples of these numbers, int64 [n]; None for no class."""
        if self.label is None:
            return None
        i = torch.arange(numbers.start, numbers.stop, device=device)
        if self.label == "all" and self.among is not None:
            return torch.tensor(self.among, device=device)[i % len(self.among)]
        if self.label == "all":
            return i % self.classes
        return torch.full_like(i, int(self.label))

    def told(self, numbers: range) -> dict[str, Tensor]:
        """`labels`, where samples have classes."""
        labels = self.labels(numbers)
        return {} if labels is None else {"labels": labels}

    def around(
        self, denoise: Denoiser, numbers: range, device: torch.device | str = "cpu"
    ) -> Denoiser:
        """`denoise` told the classes of these samples."""
        labels = self.labels(numbers, device)
        if labels is None:
            return denoise
        return Labelled(Guided(denoise, float(self.guidance)), labels)

    def steered(
        self, method: Sampler, numbers: range, device: torch.device | str = "cpu"
    ) -> Sampler:
        """`method`: a class is the denoiser's to know."""
        return method
