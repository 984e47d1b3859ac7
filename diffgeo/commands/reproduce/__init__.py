"""The published tables: `engine` makes one from its conf, the other modules draw their figures."""

from diffgeo.commands.reproduce.engine import main

__all__ = ["main"]
