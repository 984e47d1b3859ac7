"""Let `import torchvision` succeed where its compiled operators cannot be loaded.

A CUDA build of torchvision beside a CPU build of torch finds its library `_C*.so` unloadable, goes
on without it, and then dies in `torchvision._meta_registrations`, which describes operators that
are not there ("operator torchvision::nms does not exist"). Datasets, transforms and grids need none
of them. A finder on `sys.meta_path` waits for the first import of torchvision; when the library
does not load it puts an empty module in the place of the registrations, otherwise it does nothing.
It imports torch only then.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types

REGISTRATIONS = "torchvision._meta_registrations"


class Finder:
    """Looks on at the first import of torchvision and takes no part in finding it."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(cls)
            if not loads():
                sys.modules.setdefault(REGISTRATIONS, types.ModuleType(REGISTRATIONS))
        return None


def loads() -> bool:
    """Whether torchvision's compiled operators load into this torch; True also where torchvision or
    its library is missing, so that the import itself may say so."""
    import torch

    spec = importlib.machinery.PathFinder.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return True
    folders = spec.submodule_search_locations
    library = importlib.machinery.PathFinder.find_spec("torchvision._C", folders)
    if library is None:
        return True
    try:
        torch.ops.load_library(library.origin)
        return True
    except OSError:
        return False


def install() -> None:
    """Put the finder in front, once; nothing when torchvision is imported already."""
    if "torchvision" not in sys.modules and Finder not in sys.meta_path:
        sys.meta_path.insert(0, Finder)
