"""The commands of `python -m cvx`: flags in, library called, a table and the next command printed."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from cvx.processes import PROGRAM

Flags = TypeVar("Flags")


def parse(flags: type[Flags], argv: Sequence[str], command: str) -> Flags:
    """Parse a command's flags, given as a dataclass with a sentence under each field.

    A switch may stand alone: `--yes` is `--yes=True`.

    Raises:
        SystemExit: If a flag is wrong (tyro prints which, and the flags that were perhaps meant), or for --help.
    """
    import tyro

    switches = {f"--{one.name}" for one in dataclasses.fields(flags) if one.type is bool}  # type: ignore[arg-type]
    return tyro.cli(
        flags,
        args=[
            f"{one}=True" if _written(one) in switches and following not in ("True", "False") else one
            for one, following in zip(argv, [*argv[1:], ""], strict=False)
        ],
        prog=f"{PROGRAM} {command}",
        config=(tyro.conf.FlagConversionOff,),
        use_underscores=True,
    )


def _written(flag: str) -> str:
    """Write a flag's name as its field is called: tyro takes dashes for underscores."""
    return "--" + flag.removeprefix("--").replace("-", "_")
