"""Maps that no model made: what a score of a real map must be compared with."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64, UInt8

MIN_BLUR = 1.0
"""Standard deviation of the blur in pixels, at least; a sixteenth of the side where that is more."""


def sobel(images: UInt8[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n h w"]:
    """Return the strength of the edges of each image in gray: a map of the image that knows no model.

    Adebayo et al., 2018 (arXiv:1810.03292), section 5.1, found such maps to pass for explanations by eye.

    Returns:
        Values in [0, 1]; zero everywhere for an image of one color, or with a side below two pixels.
    """
    gray = torch.from_numpy(np.asarray(images, dtype=np.float32)).sum(dim=3)[:, None]  # whole numbers: flat stays zero
    across = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    kernels = torch.stack([across, across.T])[:, None]
    slopes = F.conv2d(F.pad(gray, (1, 1, 1, 1), mode="replicate"), kernels) / (4 * 255 * images.shape[3])
    return slopes.square().mean(dim=1).sqrt().numpy()


def random_maps(
    ids: Int64[np.ndarray, "n"], shape: tuple[int, int, int], seed: int = 0
) -> Float32[np.ndarray, "n c h w"]:
    """Draw standard normal noise; an image has its own draw, whichever others are beside it."""
    draws = [np.random.default_rng([seed, int(one)]).standard_normal(shape, dtype=np.float32) for one in ids]
    return np.stack(draws) if draws else np.empty((0, *shape), np.float32)


def blurred(maps: Float32[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n h w"]:
    """Blur each map by a Gaussian: what a map's scores owe to being smooth shows beside the map's own.

    Removal metrics favor smooth maps (Rong et al., 2022, arXiv:2202.00449; Gevaert et al., 2023, arXiv:2304.13836).
    """
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(maps, sigma=(0, *[max(MIN_BLUR, side / 16) for side in maps.shape[1:]]), mode="nearest")
