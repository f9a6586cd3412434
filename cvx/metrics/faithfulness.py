"""Removal tests: take out the pixels that a map ranks first and watch the model's probability.

Removal favors smooth maps and takes the model off the images it was trained on, so a curve means little without
those of maps that know nothing (`cvx.attribution.controls`) beside it.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor, nn

from cvx.attribution.gradient import check
from cvx.models.frozen import frozen

TESTS = ("deletion_mean", "deletion_blur", "insertion_mean", "insertion_blur", "road_most", "road_least")
"""Most important pixels replaced by (or put into) the image's mean color or its blur; ROAD's two orders."""
BETTER = {
    "deletion_mean": "lower",
    "deletion_blur": "lower",
    "insertion_mean": "higher",
    "insertion_blur": "higher",
    "road_most": "lower",
    "road_least": "higher",
}
"""The direction in which a test's area is better."""
NUM_STEPS = 10
NOISE = 0.01
"""Standard deviation of ROAD's noise, of inputs in [0, 1]."""
BATCH = 256
CACHED = 2**16
"""Numbers imputed together: the solver's arrays stay in a processor's cache, which doubles its speed."""


def shares(test: str) -> Float64[np.ndarray, "s"]:
    """Return the shares of the pixels at which a test looks; ROAD cannot impute an image from no pixel."""
    return np.arange(NUM_STEPS + (not test.startswith("road"))) / NUM_STEPS


def curves(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, "n"],
    maps: Float32[np.ndarray, "n h w"],
    test: str,
    seed: int = 0,
) -> Float64[np.ndarray, "n s"]:
    """Follow the probability of the target while pixels go or come in the order of the map's magnitudes.

    Deletion and insertion are those of Petsiuk et al., 2018 (RISE, arXiv:1806.07421), here of the image's own mean
    color or its blur. ROAD (Rong et al., 2022, arXiv:2202.00449) replaces pixels by noisy linear imputation, most or
    least important first. Pixels of one magnitude are ordered at random, the same for every map and model.

    Returns:
        One row per image, at `shares(test)`; nan for a map that is zero everywhere, as it orders nothing.

    Raises:
        ValueError: If the test is unknown, or inputs and targets do not fit.
    """
    if test not in TESTS:
        raise ValueError(f"unknown test {test!r}; known: {', '.join(TESTS)}")
    check(inputs, targets, "logit")
    places, at = _places(maps, last_first=test == "road_least", seed=seed), shares(test)
    size, parts = max(1, BATCH // len(at)), []
    for start in range(0, len(inputs), size):
        rows = slice(start, start + size)
        chosen = _chosen(places[rows], at).to(inputs.device)
        changed = _change(inputs[rows], chosen, test, seed)
        parts.append(_probability(model, changed, targets[rows].repeat_interleave(len(at))).reshape(-1, len(at)))
    found = np.concatenate(parts) if parts else np.empty((0, len(at)))
    return np.where(np.abs(maps).max(axis=(1, 2), initial=0)[:, None] > 0, found, np.nan)


def area(curve: Float64[np.ndarray, "*n s"], test: str) -> Float64[np.ndarray, "*n"]:
    """Return the area under curves over the range of their shares, by trapezoids: a mean probability in [0, 1]."""
    at = shares(test)
    return np.asarray(((curve[..., 1:] + curve[..., :-1]) / 2 * np.diff(at)).sum(axis=-1) / (at[-1] - at[0]))


def _places(maps: Float32[np.ndarray, "n h w"], last_first: bool, seed: int) -> Int64[np.ndarray, "n h w"]:
    """Return each pixel's place in the order, from 0; ties are broken at random."""
    values = np.abs(maps.reshape(len(maps), -1))
    shuffled = np.random.default_rng(seed).permutation(values.shape[1])
    order = shuffled[np.argsort(-values[:, shuffled], axis=1, kind="stable")]
    if last_first:
        order = order[:, ::-1]
    places = np.empty(values.shape, np.int64)
    np.put_along_axis(places, order, np.broadcast_to(np.arange(values.shape[1]), values.shape), axis=1)
    return places.reshape(maps.shape)


def _chosen(places: Int64[np.ndarray, "n h w"], at: Float64[np.ndarray, "s"]) -> Bool[Tensor, "ns h w"]:
    """Mark the first pixels of each image's order, one mask per share."""
    counts = np.rint(at * places[0].size).astype(np.int64)
    masks = places[:, None] < counts[:, None, None]
    return torch.from_numpy(masks.reshape(-1, *places.shape[1:]))


def _change(
    inputs: Float[Tensor, "n c h w"], chosen: Bool[Tensor, "ns h w"], test: str, seed: int
) -> Float[Tensor, "ns c h w"]:
    images = inputs.repeat_interleave(len(chosen) // len(inputs), dim=0)
    if test.startswith("road"):
        return impute(images, chosen, seed)
    kind, baseline = test.split("_")
    ground = (blur(inputs) if baseline == "blur" else inputs.mean(dim=(2, 3), keepdim=True).expand_as(inputs)).float()
    ground = ground.repeat_interleave(len(chosen) // len(inputs), dim=0)
    taken = chosen[:, None] if kind == "deletion" else ~chosen[:, None]
    return torch.where(taken, ground, images)


def blur(inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Blur images by a Gaussian whose standard deviation is an eighth of the side, so that no detail is left."""
    from scipy.ndimage import gaussian_filter

    sigma = (0, 0, inputs.shape[2] / 8, inputs.shape[3] / 8)
    return torch.from_numpy(gaussian_filter(inputs.detach().cpu().numpy(), sigma, mode="nearest")).to(inputs.device)


def _probability(
    model: nn.Module, inputs: Float[Tensor, "b c h w"], targets: Int64[Tensor, "b"]
) -> Float64[np.ndarray, "b"]:
    parts = []
    with frozen(model, inputs.device), torch.no_grad():
        for rows in torch.arange(len(inputs)).split(BATCH):
            probs = model(inputs[rows].float()).double().softmax(dim=1)
            parts.append(probs.gather(1, targets[rows, None])[:, 0])
    return torch.cat(parts).cpu().numpy()


def impute(
    images: Float[Tensor, "n c h w"], missing: Bool[Tensor, "n h w"], seed: int = 0, noise: float = NOISE
) -> Float[Tensor, "n c h w"]:
    """Make each missing pixel the weighted mean of its eight neighbors, all at once, plus noise (ROAD, section 4).

    Direct neighbors weigh 1/6, diagonal ones 1/12; beyond the border there is none. The linear system is symmetric
    and positive definite as long as one pixel is known, so conjugate gradients solve it for the whole batch. Every
    image gets the same draw of noise. An image with no known pixel becomes its own mean color.
    """
    generator = torch.Generator().manual_seed(seed)
    draw = noise * torch.randn(images.shape[1:], generator=generator).to(images)
    few = max(1, CACHED // images[0].numel())
    parts = [_imputed(*pair) for pair in zip(images.split(few), missing.split(few), strict=True)]
    return torch.where(missing[:, None], torch.cat(parts) + draw, images)


def _imputed(images: Float[Tensor, "n c h w"], missing: Bool[Tensor, "n h w"]) -> Float[Tensor, "n c h w"]:
    hole = missing[:, None].to(images.dtype)
    weight = _neighbors(torch.ones_like(hole))
    filled = _solve(lambda x: hole * (weight * x - _neighbors(x)), hole * _neighbors(images * (1 - hole)))
    empty = missing.all(dim=2).all(dim=1)[:, None, None, None]
    return torch.where(empty, images.mean(dim=(2, 3), keepdim=True), filled)


def _neighbors(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Add up the weighted neighbors of every pixel: the kernel [1 2 1] along both axes, less the pixel itself."""
    wide = F.pad(x, (1, 1, 1, 1))
    rows = wide[..., :-2, :] + 2 * wide[..., 1:-1, :] + wide[..., 2:, :]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:] - 4 * x) / 12


def _solve(
    system: Callable[[Tensor], Tensor], right: Float[Tensor, "n c h w"], tolerance: float = 1e-5
) -> Float[Tensor, "n c h w"]:
    """Solve each channel of each image by conjugate gradients (Hestenes and Stiefel, 1952)."""

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=(2, 3), keepdim=True)

    x, rest, way = torch.zeros_like(right), right, right
    size = goal = dot(rest, rest)
    goal = tolerance**2 * goal
    for _ in range(10 * max(right.shape[2:])):
        if not bool((size > goal).any()):
            break
        along = system(way)
        curvature = dot(way, along)
        length = torch.where(size > goal, size / curvature.clamp_min(1e-30), 0)
        x, rest = x + length * way, rest - length * along
        before, size = size, dot(rest, rest)
        way = rest + torch.where(before > 0, size / before.clamp_min(1e-30), 0) * way
    return x
