"""Keeping freed memory in the process, so that buffers of a frame's size are not given back and zeroed anew each time."""

from __future__ import annotations

import ctypes
import platform

# mallopt's parameters in glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 256 * 2**20
LARGEST_BLOCK = 32 * 2**20  # glibc takes no larger one


def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MiB of what this process frees, in blocks of up to 32 MiB; nothing with other C libraries.

    OpenCV's flow takes and frees some 40 MiB a frame: mapping them each time costs it a sixth of its CPU time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)
