"""Change of a map under a little noise on its image."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

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
