"""What this process asks of the C library's memory: glibc's, on Linux; others are left alone."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
LARGE_BLOCK = 4 << 20  # bytes: less than a picture of 4K
KEPT = 32 << 20  # bytes that are free and not handed back
ARENAS = 2


def give_back_memory() -> None:
    """Hand back what making a session took and freed: 40 MB for YAMNet."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def give_back_large_blocks() -> None:
    """From now on hand back large blocks when they are freed: 150 MB less for a video of 4K.

    Left alone, glibc keeps them, in every thread's own arena. For small pictures that is faster.
    """
    set_option = _function("mallopt")
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGE_BLOCK)
        set_option(M_TRIM_THRESHOLD, KEPT)
        set_option(M_ARENA_MAX, ARENAS)


def _function(name: str):
    """A function of the C library, or None: musl and other systems have none of these."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
