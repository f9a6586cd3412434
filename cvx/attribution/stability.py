"""How much maps change when almost nothing else does: a little noise, or one more epoch."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn

from cvx.attribution.agreement import compare, traits
from cvx.attribution.gradient import vanilla_gradient

RADIUS = 0.02
NUM_DRAWS = 10


def max_sensitivity(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, "n"],
    score: str = "logit",
    radius: float = RADIUS,
    num: int = NUM_DRAWS,
    seed: int = 0,
    explain: Callable[..., tuple[Tensor, Tensor]] = vanilla_gradient,
) -> Float64[np.ndarray, "n"]:
    """Return the largest relative change of each image's map under noise in a small box around the image.

    Sensitivity-max (Yeh et al., 2019, section 4, arXiv:1901.09392) as captum's `sensitivity_max` estimates it, from
    `num` uniform draws of at most `radius`. Every image meets the same draws, and meets them in full: clipped to
    [0, 1], half of the noise would be lost on pixels that are black or white, so that an image with an empty
    background would look steadier than others. nan where the map is zero everywhere.

    Args:
        explain: One of `cvx.attribution.METHODS`.
    """
    own = explain(model, inputs, targets, score)[1].flatten(1).double()
    largest = torch.zeros(len(inputs), dtype=torch.float64, device=own.device)
    for draw in draws(tuple(inputs.shape[1:]), radius, num, seed):
        noisy = inputs + draw.to(inputs.device)
        change = explain(model, noisy, targets, score, slack=radius)[1].flatten(1).double() - own
        largest = torch.maximum(largest, change.norm(dim=1))
    norms = own.norm(dim=1)
    return torch.where(norms > 0, largest / norms, torch.nan).cpu().numpy()


def draws(shape: tuple[int, ...], radius: float, num: int, seed: int) -> Float[Tensor, "num c h w"]:
    """Draw uniform noise in [-radius, radius]."""
    generator = torch.Generator().manual_seed(seed)
    return radius * (2 * torch.rand(num, *shape, generator=generator) - 1)


def through_epochs(
    frames: Sequence[Float32[np.ndarray, "n c h w"]],
) -> tuple[dict[str, Float64[np.ndarray, "e n"]], dict[str, Float64[np.ndarray, "e n"]]]:
    """Compare the maps of the same images after different epochs.

    Returns:
        Agreement of each frame with the last one, and with the one before it (nan for the first), by measure.
    """
    prepared = [traits(frame) for frame in frames]
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
