"""The commands of `python -m cvx`: flags in, library called, a table and the next command printed."""

from collections.abc import Sequence
from typing import TypeVar

Flags = TypeVar("Flags")


def parse(flags: type[Flags], argv: Sequence[str], command: str) -> Flags:
    """Parse a command's flags, given as a dataclass with a sentence under each field."""
    import tyro

    return tyro.cli(
        flags,
        args=list(argv),
        prog=f"python -m cvx {command}",
        config=(tyro.conf.FlagConversionOff,),
        use_underscores=True,
    )
