"""Make glibc return freed memory; otherwise the page would keep the memory of its largest map."""

import ctypes
import functools
import threading

EVERY_S = 5.0
"""Seconds between two trims."""
_M_ARENA_MAX = -8
_lock = threading.Lock()
_trim_scheduled = False


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
        return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
    except OSError:  # another system
        return None


def limit_arenas() -> None:
    """Let threads share what they free, of which each would keep hundreds of MB for itself."""
    if library := _glibc():
        library.mallopt(_M_ARENA_MAX, 2)


def trim_soon() -> None:
    """Schedule one trim of freed memory for all answers until then."""
    global _trim_scheduled
    with _lock:
        if not _trim_scheduled:
            _trim_scheduled = True
            timer = threading.Timer(EVERY_S, _trim)
            timer.daemon = True
            timer.start()


def _trim() -> None:
    global _trim_scheduled
    with _lock:
        _trim_scheduled = False
    if library := _glibc():
        library.malloc_trim(0)
