"""Matrices with all their entries: of a file, of a list, or drawn.

    A = U diag(s) V',     the positive s by LAPACK's svd, once.

A singular value counts as 0 below max(s) max(m,n) 2.2e-16, as in numpy's matrix_rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from diffgeo.core import generator
from diffgeo.errors import UsageError
from diffgeo.inverse.operators.base import Diagonal, f64
from diffgeo.store.arrays import read_array

NORMS = ("rows", "columns")
MOST = 1 << 27  # entries of a matrix: a gigabyte


@dataclass(frozen=True, eq=False)
class Matrix(Diagonal):
    """y = A x of the flattened signal.

    entries: A, float64 [m,n].
    shape: *D of a signal, n numbers.
    """

    entries: Tensor
    shape: tuple[int, ...]

    @property
    def measured(self) -> tuple[int, ...]:  # type: ignore[override]
        """(m,)"""
        return (len(self.entries),)

    @cached_property
    def _svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """U [m,r], s [r], V' [r,n] of the positive singular values."""
        u, s, v = torch.linalg.svd(self.entries, full_matrices=False)
        rank = int((s > s[0] * max(self.entries.shape) * torch.finfo(f64).eps).sum())
        return u[:, :rank], s[:rank], v[:rank]

    @property
    def values(self) -> Tensor:
        return self._svd[1]

    def __call__(self, x0):
        return x0.flatten(1) @ self.entries.to(x0).mT

    def adjoint(self, y):
        return (y @ self.entries.to(y)).reshape(len(y), *self.shape)

    def left(self, y):
        return y @ self._svd[0].to(y)

    def combine(self, coefficients):
        return coefficients @ self._svd[0].to(coefficients).mT

    def right(self, x0):
        return x0.flatten(1) @ self._svd[2].to(x0).mT

    def back(self, coefficients):
        return (coefficients @ self._svd[2].to(coefficients)).reshape(-1, *self.shape)

    def contents(self):
        return {"matrix": self.entries}


def matrix(
    shape: Sequence[int],
    file: str | None = None,
    entries: Sequence[Sequence[float]] | Tensor | None = None,
) -> Matrix:
    """y = A x.

    shape: *D of a signal.
    file: A.npy or A.csv with the matrix [m,n], n the numbers of a signal.
    entries: the matrix itself, instead of a file.

    Raises UsageError on a matrix of another width, of 0 alone, or with entries that are no finite
    numbers.
    """
    if file is not None and entries is not None:
        raise UsageError(
            f"operator=matrix takes one matrix, and operator.file={file} and operator.entries= are "
            "both set: write null for one of them, as operator.entries=null"
        )
    if file is None and entries is None:
        raise UsageError(
            "operator=matrix takes one matrix: write operator.file=A.npy, or "
            "'operator.entries=[[1,.5]]'"
        )
    name = "operator.entries" if file is None else f"operator.file={file}"
    a = rectangle(entries, name) if file is None else torch.from_numpy(read_array(file, FILE))
    numbers = prod(shape)
    if a.dim() != 2 or a.shape[1] != numbers:
        raise UsageError(
            f"{name} has shape {tuple(a.shape)}, and a point of data= has {numbers} numbers: "
            f"write a matrix of shape (m, {numbers})"
        )
    if not bool(torch.isfinite(a).all()):
        raise UsageError(f"{name} holds entries that are not finite")
    if not bool(a.any()):
        raise UsageError(f"{name} measures nothing: its entries are all 0")
    return Matrix(a, tuple(shape))


FILE = "operator.file"


def rectangle(entries: Sequence[Sequence[float]] | Tensor | None, name: str) -> Tensor:
    """A list of rows as float64 [m,n]. Raises UsageError on rows of different lengths."""
    try:
        return torch.as_tensor(entries, dtype=f64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{name} is not a matrix: write rows of equal length, as [[1,.5],[0,1]]"
        ) from error


def gaussian_rows(
    shape: Sequence[int], rows: int = 32, seed: int = 0, normalization: str = "rows"
) -> Matrix:
    """Random projections: a matrix of independent normal entries.

    shape: *D of a signal, n numbers.
    rows: m, of the matrix.
    seed: of its entries.
    normalization: rows, entries N(0, 1/m), so that |A x|^2 is |x|^2 in the mean; columns, entries
        N(0, 1/n), so that a row has length 1 in the mean.

    Raises UsageError.
    """
    numbers = prod(shape)
    if not 1 <= rows <= max(MOST // numbers, 1):
        raise UsageError(
            f"operator.rows={rows}: write a whole number from 1 to {max(MOST // numbers, 1)}"
        )
    if normalization not in NORMS:
        raise UsageError(f"operator.normalization={normalization}: write rows or columns")
    drawn = torch.randn(rows, numbers, generator=generator(seed, rows, numbers), dtype=f64)
    scale = rows if normalization == "rows" else numbers
    return Matrix(drawn / scale**0.5, tuple(shape))
