"""Check a store and say what is wrong with it and what to do; nothing is changed."""

import dataclasses

import cvx.cli
from cvx.cli.flags import InStore


@dataclasses.dataclass(frozen=True, kw_only=True)
class DoctorFlags(InStore):
    """Check models, samples, runs, measures, sweeps and pictures of a store; nothing is changed."""


def main(argv: list[str]) -> int:
    """Print every finding as it comes; exit code 1 if one is a problem."""
    flags = cvx.cli.parse(DoctorFlags, argv, "doctor")
    from cvx.store.maintenance import examine

    counts = {"problem": 0, "note": 0}
    for one in examine(flags.root):
        counts[one.level] += 1
        print(f"{one.level:<8} {one.where}\n         {one.what}\n         → {one.advice}", flush=True)
    problems, notes = counts["problem"], counts["note"]
    found = f"{_plural(problems, 'problem')}, {_plural(notes, 'note')}"
    print(f"{flags.root}: {found if problems or notes else 'whole'}")
    return 1 if problems else 0


def _plural(num: int, word: str) -> str:
    return f"{num} {word}{'' if num == 1 else 's'}"
