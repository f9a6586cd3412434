"""From signed attributions to one number per pixel, and from those to the scale they are drawn on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from cvx.attribution.options import MODES, REDUCTIONS


def to_heatmap(attribution: Float32[np.ndarray, "n c h w"], reduction: str = "max") -> Float32[np.ndarray, "n h w"]:
    """Reduce a signed attribution to one value per pixel.

    `max` is the largest magnitude over the channels (Simonyan et al., 2013, section 3.1, arXiv:1312.6034).

    Returns:
        Values in the attribution's own unit: >= 0, or signed. A map that is zero everywhere stays zero.

    Raises:
        ValueError: If a value is not finite, or the reduction is unknown.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}; known: {', '.join(REDUCTIONS)}")
    for i, image in enumerate(attribution):
        _require_finite(image, f"attribution of image {i}")
    if reduction == "max":
        return np.abs(attribution).max(axis=1)
    values = np.abs(attribution) if reduction == "sum" else attribution
    return values.sum(axis=1, dtype=np.float64).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Scaled:
    """A heatmap ready to be drawn, and what must be said beside it."""

    values: Float32[np.ndarray, "h w"]
    """In [0, 1], or in [-1, 1] where the map has negative values; zero stays zero."""
    limit: float
    """The magnitude that is drawn as 1, in the map's own unit; 0 if all maps on this scale are zero."""
    clipped: float
    """Share of the pixels whose magnitude lies beyond the limit."""
    zero: bool
    """Whether the map is zero everywhere."""


def rescale(
    heatmaps: Sequence[Float[np.ndarray, "_ _"]],
    mode: str = "shared",
    clip: float = 0.99,
    limit: float | None = None,
) -> list[Scaled]:
    """Scale heatmaps for drawing; they may differ in size.

    A map's own limit is the quantile `clip` of its magnitudes, a value that occurs in it, so that at most a share of
    1 - clip lies beyond; where that is 0 though the map is not, it is the largest magnitude. `shared` takes the
    greatest of these limits for all maps: none is clipped more than on its own scale, whatever the others' sizes.

    Args:
        mode: One of MODES.
        clip: In (0, 1]; 1 clips nothing. Not used by `absolute`.
        limit: The magnitude drawn as 1, for `absolute` only.

    Raises:
        ValueError: If a map holds NaN or infinity, or the options do not fit together.
    """
    _check_scale(mode, clip, limit)
    for i, heatmap in enumerate(heatmaps):
        _require_finite(heatmap, f"map {i}")
    limits = [_own_limit(np.abs(heatmap), clip) for heatmap in heatmaps]
    if mode == "shared":
        limits = [max(limits, default=0.0)] * len(limits)
    if limit is not None:
        limits = [limit] * len(limits)
    return [_scaled(heatmap, one) for heatmap, one in zip(heatmaps, limits, strict=True)]


def _check_scale(mode: str, clip: float, limit: float | None) -> None:
    if mode not in MODES:
        raise ValueError(f"unknown scale mode {mode!r}; known: {', '.join(MODES)}")
    if not 0 < clip <= 1:
        raise ValueError(f"clip must lie in (0, 1], got {clip}")
    if (limit is not None) != (mode == "absolute"):
        raise ValueError(
            f"a limit belongs to the scale mode 'absolute' and to no other, got mode {mode!r}, limit {limit}"
        )
    if limit is not None and not 0 < limit < np.inf:
        raise ValueError(f"limit must be positive and finite, got {limit}")


def _own_limit(magnitudes: Float[np.ndarray, "_ _"], clip: float) -> float:
    quantile = float(np.quantile(magnitudes, clip, method="higher"))
    return quantile or float(magnitudes.max())


def _scaled(heatmap: Float[np.ndarray, "h w"], limit: float) -> Scaled:
    magnitudes = np.abs(heatmap)
    safe = limit or 1.0
    return Scaled(
        values=(np.clip(heatmap.astype(np.float64), -safe, safe) / safe).astype(np.float32),
        limit=limit,
        clipped=float((magnitudes > limit).mean()),
        zero=not magnitudes.any(),
    )


def _require_finite(values: Float[np.ndarray, "..."], what: str) -> None:
    if not values.size:
        raise ValueError(f"the {what} has no pixels, its shape is {list(values.shape)}")
    if not np.isfinite(values).all():
        raise ValueError(f"the {what} holds NaN or infinity; the model's weights may have diverged")
