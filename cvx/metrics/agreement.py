"""Agreement of two models' maps of the same images.

Every measure gives one number per pair of maps: 1 for identical maps; 0, or for `topk` its share of the pixels, is
what chance gives. Where one of the maps is the same everywhere, zero included, there is nothing to compare: nan.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from cvx.attribution.heatmap import to_heatmap

TOP_SHARE = 0.1
"""Share of the pixels that count as the top of a map."""
WINDOW = 7
"""Side of SSIM's window in pixels; the largest odd side that fits where the map is smaller."""
NUM_ORIENTATIONS = 9
BLOCK = 3
"""Cells along a side of one of HOG's blocks."""
MAX_CELL = 8


@dataclass(frozen=True, eq=False)
class MapFeatures:
    """What the measures compare of n maps: each is made when first asked for, once for all pairs."""

    attribution: Float32[np.ndarray, "n c h w"]
    magnitudes: Float64[np.ndarray, "n h w"]

    @functools.cached_property
    def peaks(self) -> Float64[np.ndarray, "n 1 1"]:
        """Return the largest magnitude of each map."""
        return self.magnitudes.max(axis=(1, 2), keepdims=True)

    @functools.cached_property
    def scaled(self) -> Float64[np.ndarray, "n h w"]:
        """Return the magnitudes over the map's largest."""
        return np.divide(self.magnitudes, self.peaks, out=np.zeros_like(self.magnitudes), where=self.peaks > 0)

    @functools.cached_property
    def flat(self) -> Bool[np.ndarray, "n"]:
        """Tell whether the magnitudes are the same everywhere."""
        return self.magnitudes.max(axis=(1, 2)) == self.magnitudes.min(axis=(1, 2))

    @functools.cached_property
    def ranks(self) -> Float64[np.ndarray, "n p"]:
        """Return centered ranks of the magnitudes, of length 1; equal values share the mean of their ranks."""
        return _unit(_ranks(self.magnitudes), center=True)

    @functools.cached_property
    def signed_ranks(self) -> Float64[np.ndarray, "n p"]:
        """Return likewise those of the signed sums over the channels."""
        return _unit(_ranks(to_heatmap(self.attribution, "signed")), center=True)

    @functools.cached_property
    def gradients(self) -> Float64[np.ndarray, "n d"]:
        """Return centered histograms of oriented gradients of `scaled`, of length 1."""
        return _unit(hog(self.scaled), center=True)

    @functools.cached_property
    def top(self) -> Float64[np.ndarray, "n p"]:
        """Return each pixel's membership in the top, summing to 1.

        Pixels tied for the last places share them; a pixel that is zero is never part of it.
        """
        return _top(self.magnitudes)

    @functools.cached_property
    def direction(self) -> Float64[np.ndarray, "n q"]:
        """Return the signed attribution, all channels, of length 1."""
        peaks = np.where(self.peaks > 0, self.peaks, 1)[:, None]
        return _unit(np.divide(self.attribution, peaks).reshape(len(peaks), -1))


def map_features(attribution: Float32[np.ndarray, "n c h w"]) -> MapFeatures:
    """Prepare maps for comparison.

    Raises:
        ValueError: If a value is not finite.
    """
    return MapFeatures(attribution, to_heatmap(attribution, "max").astype(np.float64))


def _ranks(maps: Float[np.ndarray, "n h w"]) -> Float64[np.ndarray, "n p"]:
    from scipy.stats import rankdata

    return rankdata(maps.reshape(len(maps), -1), axis=1).astype(np.float64)


def _unit(rows: Float[np.ndarray, "n d"], center: bool = False) -> Float64[np.ndarray, "n d"]:
    """Give each row the length 1; a row that is zero, or nothing but rounding once centered, becomes nan."""
    exact = rows.astype(np.float64)
    sizes = np.linalg.norm(exact, axis=1, keepdims=True)
    if center and exact.shape[1]:
        exact = exact - exact.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.divide(exact, lengths, out=np.full_like(exact, np.nan), where=lengths > 1e-12 * sizes)


def _top(maps: Float64[np.ndarray, "n h w"]) -> Float64[np.ndarray, "n p"]:
    flat = maps.reshape(len(maps), -1)
    num = num_top(flat.shape[1])
    last = -np.partition(-flat, num - 1, axis=1)[:, num - 1 : num]
    above, tied = flat > last, (flat == last) & (flat > 0)  # else sparse maps would share the zeros they are tied for
    share = (num - above.sum(axis=1, keepdims=True)) / np.maximum(tied.sum(axis=1, keepdims=True), 1)
    members = above + tied * share
    return members / np.maximum(members.sum(axis=1, keepdims=True), 1)


def num_top(num_pixels: int) -> int:
    """Count the pixels in the top of a map: `TOP_SHARE` of them, at least one."""
    return max(1, round(TOP_SHARE * num_pixels))


def spearman(a: MapFeatures, b: MapFeatures) -> Float64[np.ndarray, "n"]:
    """Correlate the ranks of the magnitudes: whether the same pixels matter, in the same order (Spearman, 1904)."""
    return (a.ranks * b.ranks).sum(axis=1)


def spearman_signed(a: MapFeatures, b: MapFeatures) -> Float64[np.ndarray, "n"]:
    """Correlate the ranks of the signed sums over the channels: whether they matter in the same direction, too."""
    return (a.signed_ranks * b.signed_ranks).sum(axis=1)


def cosine(a: MapFeatures, b: MapFeatures) -> Float64[np.ndarray, "n"]:
    """Return the cosine between the signed attributions, all pixels and channels."""
    return (a.direction * b.direction).sum(axis=1)


def topk(a: MapFeatures, b: MapFeatures) -> Float64[np.ndarray, "n"]:
    """Return the share that the tops of the two maps have in common; chance gives `TOP_SHARE`, less for sparse maps."""
    return _without_flat(np.minimum(a.top, b.top).sum(axis=1), a, b)


def hog_correlation(a: MapFeatures, b: MapFeatures) -> Float64[np.ndarray, "n"]:
    """Correlate the histograms of oriented gradients: whether the maps have like shapes, not like pixels.

    As Adebayo et al., 2018 (arXiv:1810.03292) compare maps; nan for maps with a side below two pixels.
    """
    if not a.gradients.shape[1]:
        return np.full(len(a.gradients), np.nan)
    return (a.gradients * b.gradients).sum(axis=1)


def ssim(a: MapFeatures, b: MapFeatures) -> Float64[np.ndarray, "n"]:
    """Return the mean structural similarity (Wang et al., 2004, doi:10.1109/TIP.2003.819861).

    Of the magnitudes over each map's largest, in a uniform window with sample covariance, the border left out.
    It rewards being dark in the same places: sparse maps are alike by SSIM before they agree on anything else.
    nan for maps with a side below three pixels.
    """
    side = min(WINDOW, *a.scaled.shape[1:])
    side -= 1 - side % 2
    if side < 3:
        return np.full(len(a.scaled), np.nan)
    x, y = (torch.from_numpy(one.scaled)[:, None] for one in (a, b))
    mean_x, mean_y, xx, yy, xy = (F.avg_pool2d(one, side, stride=1) for one in (x, y, x * x, y * y, x * y))
    unbiased = side**2 / (side**2 - 1)
    var_x, var_y, cov = (
        unbiased * (product - one * other)
        for product, one, other in ((xx, mean_x, mean_x), (yy, mean_y, mean_y), (xy, mean_x, mean_y))
    )
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    likeness = likeness / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return _without_flat(likeness.mean(dim=(1, 2, 3)).numpy(), a, b)


def _without_flat(values: Float64[np.ndarray, "n"], a: MapFeatures, b: MapFeatures) -> Float64[np.ndarray, "n"]:
    return np.where(a.flat | b.flat, np.nan, values)


MEASURES: dict[str, Callable[[MapFeatures, MapFeatures], Float64[np.ndarray, "n"]]] = {
    "spearman": spearman,
    "spearman_signed": spearman_signed,
    "cosine": cosine,
    "topk": topk,
    "ssim": ssim,
    "hog": hog_correlation,
}


def compare(
    a: MapFeatures, b: MapFeatures, names: Sequence[str] = tuple(MEASURES)
) -> dict[str, Float64[np.ndarray, "n"]]:
    """Return measures of MEASURES between the maps of the same images.

    Raises:
        ValueError: If the maps differ in number or size; resampling one would smear it.
    """
    if a.magnitudes.shape != b.magnitudes.shape:
        raise ValueError(
            f"maps of shapes {list(a.magnitudes.shape)} and {list(b.magnitudes.shape)} cannot be compared pixel by"
            " pixel; compare models that got the same images at the same size"
        )
    return {name: MEASURES[name](a, b) for name in names}


def cell_side(side: int) -> int:
    """Choose the side of HOG's cells: the largest even one up to 8 that divides the image into 3 cells or more."""
    fitting = [cell for cell in range(2, MAX_CELL + 1, 2) if side % cell == 0 and side // cell >= BLOCK]
    return max(fitting, default=max(2, min(MAX_CELL, side // 4) // 2 * 2))


def hog(maps: Float64[np.ndarray, "n h w"]) -> Float64[np.ndarray, "n d"]:
    """Describe square maps by histograms of oriented gradients (Dalal and Triggs, 2005, doi:10.1109/CVPR.2005.177).

    Nine unsigned orientations, blocks of 3 × 3 cells (or all there are) normalized by L2-Hys: the numbers of
    scikit-image's `hog`, for all maps at once. No features for maps with a side below two pixels.
    """
    num, side = maps.shape[:2]
    cell = cell_side(side)
    cells = side // cell
    if cells < 1:
        return np.empty((num, 0))
    rows, columns = _slopes(torch.from_numpy(maps))
    angle = torch.rad2deg(torch.atan2(rows, columns)) % 180
    bins = (angle / (180 / NUM_ORIENTATIONS)).long().clamp_(max=NUM_ORIENTATIONS - 1)
    votes = torch.zeros(num, NUM_ORIENTATIONS, side, side, dtype=torch.float64)
    votes.scatter_(1, bins[:, None], torch.hypot(rows, columns)[:, None])
    histograms = F.avg_pool2d(votes, cell)  # [n, orientations, cells, cells]; a rest at the border belongs to no cell
    block = min(BLOCK, cells)
    blocks = histograms.unfold(2, block, 1).unfold(3, block, 1).permute(0, 2, 3, 4, 5, 1)
    return _l2_hys(blocks.reshape(num, -1, block * block * NUM_ORIENTATIONS)).reshape(num, -1).numpy()


def _slopes(maps: Float[Tensor, "n h w"]) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    rows, columns = torch.zeros_like(maps), torch.zeros_like(maps)
    rows[:, 1:-1] = maps[:, 2:] - maps[:, :-2]
    columns[:, :, 1:-1] = maps[:, :, 2:] - maps[:, :, :-2]
    return rows, columns


def _l2_hys(blocks: Float[Tensor, "n blocks d"], eps: float = 1e-5) -> Float[Tensor, "n blocks d"]:
    """Normalize each block, cut what stands out, and normalize again."""
    for limit in (0.2, 1.0):
        blocks = (blocks / (blocks.square().sum(dim=2, keepdim=True) + eps**2).sqrt()).clamp(max=limit)
    return blocks


def rounding_error(
    exact: Float32[np.ndarray, "n c h w"], rounded: Float32[np.ndarray, "n c h w"]
) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
    """Hold maps of a faster precision against the same maps in float32.

    Returns:
        For each image the cosine of the two signed maps, and the rank correlation of their magnitudes; nan where
        either map is zero everywhere.
    """
    one, other = map_features(exact), map_features(rounded)
    return cosine(one, other), spearman(one, other)
