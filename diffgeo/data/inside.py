"""A picture that is no file of its own: a member of an archive, a cell of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path


@dataclass(frozen=True)
class Inside:
    """Looked at and decoded as a file is (`pictures`).

    container: the file or folder that holds it.
    name: it has there; one that ends in .npy is an array of bytes.
    content: reads its bytes.
    """

    container: Path
    name: str
    content: Callable[[], bytes]

    def __str__(self) -> str:
        return f"{self.container}: {self.name}"

    def is_file(self) -> bool:
        return True

    def exists(self) -> bool:
        return True

    def open(self, mode: str = "rb") -> BytesIO:
        return BytesIO(self.content())


Picture = Path | Inside
