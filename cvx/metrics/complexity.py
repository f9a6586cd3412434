"""Properties of a single map, comparable between datasets: entropy, Gini, center bias, frequency."""

import numpy as np
from jaxtyping import Float, Float64

MEASURES = ("gini", "entropy", "center_bias", "frequency")


def describe(maps: Float[np.ndarray, "n h w"]) -> dict[str, Float64[np.ndarray, "n"]]:
    """Describe the magnitudes of maps; nan for a map that is zero everywhere.

    Returns:
        gini: How concentrated the map is, from 0 (the same everywhere) to 1 - 1/pixels (one pixel) (Gini, 1912;
            for maps Chalasani et al., 2020, arXiv:1810.06583).
        entropy: Of the map as a distribution over pixels, over the logarithm of their number: 1 is even, 0 one pixel.
        center_bias: As `center_bias`.
        frequency: Mean spatial frequency of the map less its mean, over the highest along an axis (0.5 cycles per
            pixel): noise is high, blobs are low; nan for a map that is the same everywhere.
    """
    values = np.abs(maps).astype(np.float64)
    peaks = values.max(axis=(1, 2), keepdims=True)
    scaled = np.divide(values, peaks, out=np.zeros_like(values), where=peaks > 0)
    totals = scaled.sum(axis=(1, 2), keepdims=True)
    shares = np.divide(scaled, totals, out=np.full_like(scaled, np.nan), where=totals > 0)
    flat = shares.reshape(len(maps), -1)
    return {
        "gini": _gini(flat),
        "entropy": _entropy(flat),
        "center_bias": center_bias(shares),
        "frequency": _frequency(shares),
    }


def _gini(shares: Float64[np.ndarray, "n p"]) -> Float64[np.ndarray, "n"]:
    num = shares.shape[1]
    places = 2 * np.arange(1, num + 1) - num - 1
    return (np.sort(shares, axis=1) * places).sum(axis=1) / num


def _entropy(shares: Float64[np.ndarray, "n p"]) -> Float64[np.ndarray, "n"]:
    if shares.shape[1] < 2:
        return np.full(len(shares), np.nan)
    logs = np.log(np.where(shares == 0, 1, shares))
    return np.abs((shares * logs).sum(axis=1)) / np.log(shares.shape[1])


def center_bias(shares: Float[np.ndarray, "n h w"]) -> Float64[np.ndarray, "n"]:
    """Return the mean distance of maps from the center over that of a uniform map: below 1 is central.

    A map of one pixel lies at the center and cannot lie elsewhere: nan, as there is no distance to compare with.

    Args:
        shares: Of each map, what share of its magnitude lies on each pixel.
    """
    rows, columns = (np.arange(length) - (length - 1) / 2 for length in shares.shape[1:])
    distances = np.hypot(rows[:, None], columns[None, :])
    uniform = distances.mean()
    return (shares * distances).sum(axis=(1, 2)) / uniform if uniform > 0 else np.full(len(shares), np.nan)


def _frequency(shares: Float64[np.ndarray, "n h w"]) -> Float64[np.ndarray, "n"]:
    centered = shares - shares.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(centered)) ** 2
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(length) for length in shares.shape[1:]), indexing="ij")) / 0.5
    totals = power.sum(axis=(1, 2))
    varied = ~(np.ptp(shares, axis=(1, 2)) <= 1e-12 * shares.max(axis=(1, 2)))
    mean = (power * radius).sum(axis=(1, 2))
    return np.divide(mean, totals, out=np.full_like(mean, np.nan), where=varied & (totals > 0))
