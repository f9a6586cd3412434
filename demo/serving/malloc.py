"""What glibc keeps of freed memory, given back: a large map would else be paid for as long as the page is served."""

import ctypes
import functools
import threading

EVERY_S = 5.0
"""Seconds between two times that memory is given back."""
_M_ARENA_MAX = -8
_lock = threading.Lock()
_coming = False


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
        return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None
    except OSError:  # another system
        return None


def share() -> None:
    """Let threads share what they free, of which each would keep hundreds of MB for itself."""
    if library := _glibc():
        library.mallopt(_M_ARENA_MAX, 2)


def give_back() -> None:
    """Give freed memory back to the system soon: once for all answers till then, and after the last of them too."""
    global _coming
    with _lock:
        if not _coming:
            _coming = True
            timer = threading.Timer(EVERY_S, _trim)
            timer.daemon = True
            timer.start()


def _trim() -> None:
    global _coming
    with _lock:
        _coming = False
    if library := _glibc():
        library.malloc_trim(0)
