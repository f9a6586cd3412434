"""Share of a map on the pixels that decide the class, where a mask says which those are.

Scores are shares in [0, 1], one per image. Pixels of equal magnitude share the places they are tied for, so a map
that is the same everywhere scores exactly what chance does. nan where the map is zero everywhere or the mask is
empty.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64

MEASURES = ("pointing", "mass", "rank", "auc")


def localize(
    maps: Float[np.ndarray, "n h w"], masks: Bool[np.ndarray, "n h w"], names: Sequence[str] = MEASURES
) -> dict[str, Float64[np.ndarray, "n"]]:
    """Score where the magnitudes of maps lie, by some of MEASURES.

    Returns:
        pointing: Whether the largest value lies on the mask (Zhang et al., 2016, arXiv:1608.00507; no tolerance
            around it).
        mass: Share of the sum that lies on the mask (Arras et al., 2020, relevance mass accuracy, arXiv:2003.07258).
        rank: Share of the mask's pixels among as many of the largest values (same paper, relevance rank accuracy).
        auc: Chance that a pixel on the mask has a larger value than one off it; nan where the mask is the image.
    """
    values = np.abs(maps.reshape(len(maps), -1)).astype(np.float64)
    inside = masks.reshape(len(masks), -1)
    peaks = values.max(axis=1, keepdims=True)
    known = (peaks[:, 0] > 0) & inside.any(axis=1)
    safe = np.divide(values, peaks, out=np.ones_like(values), where=peaks > 0)
    return {name: np.where(known, _SCORES[name](safe, inside), np.nan) for name in names}


def chance(masks: Bool[np.ndarray, "n h w"]) -> dict[str, Float64[np.ndarray, "n"]]:
    """Return what a map that knows nothing scores on each image: the mask's share of it, and 0.5 for `auc`."""
    area = masks.mean(axis=(1, 2))
    area = np.where(area > 0, area, np.nan)
    half = np.where((area > 0) & (area < 1), 0.5, np.nan)
    return {name: half if name == "auc" else area for name in MEASURES}


def _pointing(values: Float64[np.ndarray, "n p"], inside: Bool[np.ndarray, "n p"]) -> Float64[np.ndarray, "n"]:
    return np.asarray((inside & (values == 1)).sum(axis=1) / (values == 1).sum(axis=1))


def _mass(values: Float64[np.ndarray, "n p"], inside: Bool[np.ndarray, "n p"]) -> Float64[np.ndarray, "n"]:
    return (values * inside).sum(axis=1) / values.sum(axis=1)


def _rank(values: Float64[np.ndarray, "n p"], inside: Bool[np.ndarray, "n p"]) -> Float64[np.ndarray, "n"]:
    num = np.maximum(inside.sum(axis=1), 1)
    last = np.take_along_axis(-np.sort(-values, axis=1), num[:, None] - 1, axis=1)
    above, tied = values > last, values == last
    places = (num - above.sum(axis=1)) / tied.sum(axis=1)
    return ((above & inside).sum(axis=1) + places * (tied & inside).sum(axis=1)) / num


def _auc(values: Float64[np.ndarray, "n p"], inside: Bool[np.ndarray, "n p"]) -> Float64[np.ndarray, "n"]:
    """Return the area under the ROC curve from the ranks' sum (Mann and Whitney, 1947)."""
    from scipy.stats import rankdata

    positive = inside.sum(axis=1).astype(np.float64)
    negative = inside.shape[1] - positive
    sums = (rankdata(values, axis=1) * inside).sum(axis=1) - positive * (positive + 1) / 2
    pairs = positive * negative
    return np.divide(sums, pairs, out=np.full_like(sums, np.nan), where=pairs > 0)


_SCORES = {"pointing": _pointing, "mass": _mass, "rank": _rank, "auc": _auc}
