"""Keep freed memory in the process.

glibc hands blocks above 128 KiB back to the kernel as soon as they are freed, and a planar training
step frees dozens of just that size (512 x 64 floats): every one of them then costs its page faults
again. Two settings of malloc stop that; elsewhere nothing happens.
"""

import ctypes
import sys

# malloc.h
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to serve all blocks from its heap and not to trim it; True when it took
    the settings."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 1 << 30), (M_TOP_PAD, 1 << 24))
    return all(mallopt(name, value) for name, value in settings)
