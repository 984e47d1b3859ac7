"""`python -m diffgeo` is `diffgeo`."""

import sys
from pathlib import Path

# Python puts the working directory first, and the folder of a stranger may hold a torch.py
package = Path(__file__).resolve().parent.parent
if not sys.flags.safe_path and sys.path[0] != str(package):
    del sys.path[0]

from diffgeo.cli import main  # noqa: E402

main()
