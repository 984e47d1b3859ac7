"""The entries of somebody else's JSON file, each of a kind: whoever reads one says of which kind it
has to be, and a wrong one is refused by its name."""

from __future__ import annotations

import json
from dataclasses import dataclass

from diffgeo.errors import UsageError


@dataclass(frozen=True)
class Entries:
    """The entries `config` of a file, which messages call `source`. Every method raises UsageError
    with the name of the key that is at fault."""

    source: str
    config: dict

    def number(self, key: str, default, whole: bool = False):
        value = self.config.get(key, default)
        kind = int if whole else int | float
        if isinstance(value, bool) or not isinstance(value, kind):
            self.refuse(key, "write a whole number" if whole else "write a number")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "write true or false")
        return value

    def choice(self, key: str, default: str, words: tuple[str, ...]) -> str:
        value = self.config.get(key, default)
        if value not in words:
            self.refuse(key, f"it is unknown; it may be {', '.join(words)}")
        return value

    def shown(self, key: str) -> str:
        """A key and its value, as the file writes them."""
        return f"{key}={json.dumps(self.config[key])}"

    def refuse(self, key: str, why: str) -> None:
        raise UsageError(f"{self.source}: {self.shown(key)}: {why}")
