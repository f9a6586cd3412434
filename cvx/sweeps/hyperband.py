"""When a trial is not worth going on with: W&B's Hyperband, by the keys of `early_terminate`."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cvx.sweeps.space import is_number

LONGEST = 1_000_000
"""Iterations after which no more bands are made."""
LEAST_ETA = 1.01
"""Below, the bands would lie so close that there is one at almost every iteration."""
_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")


@dataclasses.dataclass(frozen=True)
class Hyperband:
    """Successive halving at a few iterations, the bands (Li et al., 2016, arXiv:1603.06560).

    An iteration is one recorded value of the metric, the first being iteration 0: the untrained model where it
    is recorded per epoch, so that iteration and epoch are the same number.
    """

    bands: tuple[int, ...]
    eta: float
    strict: bool

    def stops(self, history: Sequence[float], histories: Sequence[Sequence[float]], maximize: bool) -> bool:
        """Say whether a trial should end: at the last band it reached it is not among the best 1/eta.

        By default its best value so far counts, so that one bad epoch stops nobody; `strict` takes the value at
        the band itself. Of equals none is stopped.

        Args:
            history: The trial's values of the metric.
            histories: Those of all trials, this one included.
        """
        reached = [band for band in self.bands if band < len(history)]
        if not reached:
            return False
        band, sign = reached[-1], -1.0 if maximize else 1.0
        there = sorted(sign * values[band] for values in histories if len(values) > band)
        threshold = there[int(len(there) / self.eta)]
        own = sign * history[band] if self.strict else min(sign * value for value in history)
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
    eta, strict = given.get("eta", 3), given.get("strict", False)
    if not is_number(eta) or eta < LEAST_ETA:
        raise ValueError(f"early_terminate.eta must be a number above 1, {LEAST_ETA} or more, got {eta!r}")
    if not isinstance(strict, bool):
        raise ValueError(f"early_terminate.strict must be true or false, got {strict!r}")
    return Hyperband(_bands(given, eta), eta, strict)


def _bands(given: Mapping[str, Any], eta: float) -> tuple[int, ...]:
    counts = {key: given[key] for key in ("min_iter", "max_iter", "s") if key in given}
    for key, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LONGEST:
            raise ValueError(f"early_terminate.{key} must be a whole number from 1 to {LONGEST:,}, got {value!r}")
    if "max_iter" in counts and "s" in counts:
        powers = (counts["max_iter"] / eta**k for k in range(1, counts["s"] + 1))
        bands = [int(band) for band in itertools.takewhile(lambda band: band >= 1, powers)]
        if not bands:
            raise ValueError(
                f"early_terminate: max_iter {counts['max_iter']} / eta {eta} is below 1; nothing is compared"
            )
    elif "min_iter" in counts and "max_iter" not in counts and "s" not in counts:
        last = int(math.log(LONGEST / counts["min_iter"], eta))
        bands = [int(counts["min_iter"] * eta**k) for k in range(last + 1)]
    else:
        raise ValueError(f"early_terminate needs min_iter, or max_iter and s, got {', '.join(counts) or 'neither'}")
    return tuple(sorted(set(bands)))
