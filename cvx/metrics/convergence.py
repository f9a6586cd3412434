"""Change of maps from epoch to epoch, and the epoch at which they settle."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64

from cvx.metrics.agreement import compare, map_features


def through_epochs(
    frames: Sequence[Float32[np.ndarray, "n c h w"]],
) -> tuple[dict[str, Float64[np.ndarray, "e n"]], dict[str, Float64[np.ndarray, "e n"]]]:
    """Compare the maps of the same images after different epochs.

    Returns:
        Agreement of each frame with the last one, and with the one before it (nan for the first), by measure.
    """
    prepared = [map_features(frame) for frame in frames]
    to_last = [compare(one, prepared[-1]) for one in prepared]
    steps = [compare(one, other) for one, other in itertools.pairwise(prepared)]
    gap = {name: np.full(len(frames[0]), np.nan) for name in to_last[0]}
    return _stacked(to_last), _stacked([gap, *steps])


def _stacked(rows: Sequence[dict[str, Float64[np.ndarray, "n"]]]) -> dict[str, Float64[np.ndarray, "e n"]]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def settled(values: Sequence[float], tolerance: float = 0.1) -> int:
    """Return the first index from which on values stay near the last one.

    Near is within `tolerance` of the way from the first value to the last; 0 where there is no way to go.

    Raises:
        ValueError: If there are no values.
    """
    if not len(values):
        raise ValueError("no values, so nothing settles")
    array = np.asarray(values, dtype=np.float64)
    far = np.abs(array - array[-1]) > tolerance * abs(array[-1] - array[0])
    return int(np.flatnonzero(far)[-1]) + 1 if far.any() else 0
