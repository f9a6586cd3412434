"""A long computation ends early when nobody waits for its result any more."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


def _go_on() -> None:
    """Stop nothing."""


_check: ContextVar[Callable[[], None]] = ContextVar("check", default=_go_on)


@contextmanager
def stopped_by(check: Callable[[], None]) -> Iterator[None]:
    """Let every computation within call this between its parts; what it raises ends the computation."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def check() -> None:
    """Raise what whoever waits for this computation wants it to end with, if anything; called between parts."""
    _check.get()()
