"""Check a store and say what is wrong with it and what to do; nothing is changed."""

import dataclasses
from pathlib import Path

import cvx.cli


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Check models, samples, runs, measures, sweeps and pictures of a store; nothing is changed."""

    artifacts: str = ""
    """The store; default: CVX_ARTIFACTS or artifacts."""


def main(argv: list[str]) -> int:
    """Print every finding as it comes; exit code 1 if one is a problem."""
    flags = cvx.cli.parse(Flags, argv, "doctor")
    from cvx import config
    from cvx.upkeep import examine

    root, counts = Path(flags.artifacts or config.default_artifacts()), {"problem": 0, "note": 0}
    for one in examine(root):
        counts[one.level] += 1
        print(f"{one.level:<8} {one.where}\n         {one.what}\n         → {one.advice}", flush=True)
    problems, notes = counts["problem"], counts["note"]
    found = f"{_plural(problems, 'problem')}, {_plural(notes, 'note')}"
    print(f"{root}: {found if problems or notes else 'whole'}")
    return 1 if problems else 0


def _plural(num: int, word: str) -> str:
    return f"{num} {word}{'' if num == 1 else 's'}"
