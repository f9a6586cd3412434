"""Move the alias `best` on W&B to the best version of a model."""

import math
from typing import Any

from cvx.tracking.account import DEFAULT_TIMEOUTS, Timeouts, api, as_oserror
from cvx.tracking.artifact_names import safe
from cvx.tracking.artifacts import MODEL

BEST = "best"
ROUNDS = 20
"""Attempts, at most: each but the last found that another run had moved the alias meanwhile."""


def update_best_alias(project: str, name: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
    """Give the alias `best` to the best version of a name, judged by what every version says of itself.

    Runs that end together all do so. Whoever moves the alias looks again afterwards, so that the last one to move it
    has seen the versions of all who moved it before.

    Args:
        project: ENTITY/PROJECT.
        name: The collection, as the store calls it.

    Raises:
        OSError: If W&B does not answer.
    """
    interface = api(timeouts)
    with as_oserror(f"W&B does not say which {name} is best"):
        for _ in range(ROUNDS):
            versions = list(interface.artifacts(MODEL, f"{project}/{safe(name)}"))
            best = max(versions, key=_rank, default=None)
            if best is None or BEST in best.aliases:
                return
            best.aliases.append(BEST)
            best.save()


def _rank(version: Any) -> tuple[bool, float, int]:
    """Rank as the store does: the last weights of a run never outrank its best, and of equals the newer wins."""
    facts = version.metadata or {}
    numbers = facts.get("metrics")
    acc1 = _number(numbers.get("val/acc1") if isinstance(numbers, dict) else None)
    return facts.get("role") != "last", acc1, int(version.version.removeprefix("v"))


def _number(value: Any) -> float:
    """Return an accuracy, or less than any where W&B holds none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return -1.0
    return float(value)
