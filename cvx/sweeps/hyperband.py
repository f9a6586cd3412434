"""Stop trials early by W&B's Hyperband, with the keys of `early_terminate`."""

import bisect
import dataclasses
import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from cvx.sweeps.search_space import is_number, whole

LONGEST = 1_000_000
"""Iterations after which no more bands are made."""
MOST_BANDS = 100
"""Bands that W&B makes of a `min_iter`."""
_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")


@dataclasses.dataclass(frozen=True)
class Hyperband:
    """Successive halving at a few iterations, the bands (Li et al., 2016, arXiv:1603.06560).

    Bands, comparison and defaults are those of W&B's public controller (github.com/wandb/sweeps, August 2026): the
    value at band b is the b-th recorded one. Of a metric that is recorded per epoch the first is the untrained
    model's, so band b compares what b - 1 epochs have made.
    """

    bands: tuple[int, ...]
    eta: float
    strict: bool

    def stops(self, history: Sequence[float], histories: Sequence[Sequence[float]], maximize: bool) -> bool:
        """Say whether a trial should end: at the last band it reached it is not among the best 1/eta.

        `strict` takes the value at the band itself; without it a trial's best value so far counts, so that one bad
        epoch stops nobody. Of equals none is stopped.

        Args:
            history: The trial's values of the metric.
            histories: Those of all trials, this one included.
        """
        reached = bisect.bisect_right(self.bands, len(history))
        if not reached:
            return False
        band, sign = self.bands[reached - 1], -1.0 if maximize else 1.0
        there = sorted(sign * values[band - 1] for values in histories if len(values) >= band)
        threshold = there[int(1 / self.eta * len(there))]
        own = sign * history[band - 1] if self.strict else min(sign * value for value in history)
        return own > threshold


def hyperband(given: object) -> Hyperband:
    """Read a sweep file's `early_terminate`.

    Raises:
        ValueError: If it is no hyperband with min_iter, or with max_iter and s.
    """
    if not isinstance(given, dict) or given.get("type") != "hyperband":
        raise ValueError(f"early_terminate.type must be hyperband, got {given!r}")
    for key in given:
        if key not in _KEYS:
            raise ValueError(f"early_terminate: unknown key {key!r}; known: {', '.join(_KEYS)}")
    eta, strict = given.get("eta", 3), given.get("strict", True)
    if not is_number(eta) or eta <= 1:
        raise ValueError(f"early_terminate.eta must be a number above 1, got {eta!r}")
    if not isinstance(strict, bool):
        raise ValueError(f"early_terminate.strict must be true or false, got {strict!r}")
    return Hyperband(_bands(given, eta), eta, strict)


def _bands(given: Mapping[str, Any], eta: float) -> tuple[int, ...]:
    if {"max_iter", "s"} <= set(given):
        last, steps = _count(given, "max_iter"), itertools.repeat(eta, _count(given, "s"))
        below = itertools.islice(itertools.accumulate(steps, operator.truediv, initial=last), 1, None)
        bands = {int(band) for band in itertools.takewhile(lambda band: band >= 1, below)}
        if not bands:
            raise ValueError(f"early_terminate: max_iter {last} / eta {eta} is below 1; nothing is compared")
    elif "min_iter" in given and "max_iter" not in given:  # W&B takes an `s` beside it, which then means nothing
        first, steps = _count(given, "min_iter"), itertools.repeat(eta, MOST_BANDS - 1)
        above = itertools.accumulate(steps, operator.mul, initial=first)
        bands = {int(band) for band in itertools.takewhile(lambda band: band <= LONGEST, above)}
    else:
        has = [key for key in ("min_iter", "max_iter", "s") if key in given]
        raise ValueError(f"early_terminate needs min_iter, or max_iter and s, got {', '.join(has) or 'neither'}")
    return tuple(sorted(bands))


def _count(given: Mapping[str, Any], key: str) -> int:
    count = whole(given[key])
    if count is None or not 1 <= count <= LONGEST:
        raise ValueError(f"early_terminate.{key} must be a whole number from 1 to {LONGEST:,}, got {given[key]!r}")
    return count
