"""A mean over images with its bootstrap interval."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

NUM_DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over images, and where it would fall 95 times of 100 had other such images been drawn."""

    mean: float
    low: float
    high: float
    """Both nan for fewer than two images."""
    num: int
    """Images that count."""
    num_undefined: int = 0
    """Images left out because the measure is undefined for them: a map that is zero, or the same everywhere."""

    def text(self, digits: int = 2) -> str:
        """Write it as `0.41 [0.39, 0.43]`; a dash where there is nothing to average."""
        if not self.num:
            return "–"
        mean, low, high = (decimal(value, digits) for value in (self.mean, self.low, self.high))
        return mean if np.isnan(self.low) else f"{mean} [{low}, {high}]"


def decimal(value: float, digits: int = 2) -> str:
    """Write a number with so many decimals, 0.00 without a sign; a dash for nan."""
    return "–" if np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def interval(values: Float64[np.ndarray, "n"], seed: int = 0) -> Interval:
    """Average over images and bootstrap the mean (Efron, 1979): images are redrawn, percentiles taken.

    The interval speaks of other images of the same kind, not of other trainings: a second seed of the same model may
    well lie outside.
    """
    known = values[~np.isnan(values)]
    missing = len(values) - len(known)
    if len(known) < 2:
        mean = float(known[0]) if len(known) else float("nan")
        return Interval(mean, float("nan"), float("nan"), len(known), missing)
    means = _weights(len(known), seed) @ known
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(known.mean()), float(low), float(high), len(known), missing)


@functools.lru_cache(maxsize=4)
def _weights(num: int, seed: int) -> Float64[np.ndarray, "draws num"]:
    """Count how often each image is drawn in each resample; intervals over equally many images share the draws."""
    counts = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=NUM_DRAWS)
    return counts / num
