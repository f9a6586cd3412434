"""Cancel a long computation whose result nobody waits for any more."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


def _go_on() -> None:
    """Cancel nothing: the default where no caller set a check."""


_check: ContextVar[Callable[[], None]] = ContextVar("check", default=_go_on)


@contextmanager
def stopped_by(check: Callable[[], None]) -> Iterator[None]:
    """Have every computation within the block call this between its parts; raise in it to cancel the computation."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def check() -> None:
    """Raise if the caller cancelled this computation; to be called between parts."""
    _check.get()()
