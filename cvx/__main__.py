"""`python -m cvx COMMAND`, or `cvx COMMAND` where it is installed: the commands are imported only when they run."""

import ast
import importlib
import signal
import sys
from pathlib import Path

from cvx.processes import PROGRAM, spin_less

COMMANDS = (
    "train",
    "starter",
    "evaluate",
    "attribute",
    "compare",
    "import",
    "pipeline",
    "sweep",
    "publish",
    "pull",
    "report",
    "doctor",
    "prune",
)


def main(argv: list[str] | None = None) -> int:
    """Run one command, by default the one that was typed; what a person got wrong becomes one line, no traceback."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    command, *rest = argv
    if command not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        print(f"cvx: unknown command {command!r}{hint or '.'} Known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    spin_less()
    try:
        return importlib.import_module(f"cvx.cli.{_module(command)}").main(rest)
    except (ValueError, OSError) as error:
        print(f"cvx {command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\ncvx {command}: {str(stop) or 'stopped'}", file=sys.stderr)
        return 128 + getattr(stop, "signum", signal.SIGINT)


def usage() -> str:
    """List the commands, each with the first line of its module's docstring."""
    lines = [f"  {command:<10} {_summary(command)}" for command in COMMANDS]
    return "\n".join([f"usage: {PROGRAM} COMMAND [--help] …", "", *lines])


def _summary(command: str) -> str:
    source = Path(__file__).with_name("cli") / f"{_module(command)}.py"
    return (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").splitlines()[0]


def _module(command: str) -> str:
    return {"import": "import_weights"}.get(command, command)


if __name__ == "__main__":
    sys.exit(main())
