"""Libraries that only some commands use: imported when they are, and named, with the line that
installs them, where they are not here.

    torchvision = needed("torchvision.datasets", "data=cifar10", "torchvision")

Imports no torch by itself.
"""

from __future__ import annotations

import importlib
from typing import Any

from diffgeo.errors import UsageError


def needed(module: str, what: str, install: str) -> Any:
    """A module of a library that is not imported with diffgeo.

    module: its dotted name.
    what: needs it, as it is typed: data=cifar10.
    install: what pip is given, such as diffgeo[datasets].

    Raises UsageError where it cannot be imported: that it is missing, or what is wrong with it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        missing = isinstance(error, ModuleNotFoundError) and error.name == library
        why = "" if missing else f" (it is here, but: {str(error).splitlines()[0]})"
        raise UsageError(f"{what} needs {library}: pip install '{install}'{why}") from error
