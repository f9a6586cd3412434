"""Fit images and masks to a model's size and channels."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image


def fit_image(image: UInt8[np.ndarray, "h w c"], size: int) -> UInt8[np.ndarray, "s s c"]:
    """Resize the short side to `size`, antialiased, and crop the center; an image that fits already is unchanged."""
    if image.shape[:2] == (size, size):
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    fitted = picture.resize((size, size), Image.Resampling.BICUBIC, box=_center_box(*image.shape[:2]))
    return np.asarray(fitted).reshape(size, size, image.shape[2])


def fit_mask(mask: Bool[np.ndarray, "h w"], size: int) -> Bool[np.ndarray, "s s"]:
    """Fit a mask to the box that its image is fitted to; a pixel belongs to it if at least half of it does.

    Bilinear, not bicubic as the image: whatever the sizes, a pixel weighs only what the mask covers near it, never less
    than nothing. And what is kept in stores and caches was fitted so.
    """
    if mask.shape == (size, size):
        return mask
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    box = _center_box(*mask.shape)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box)) >= 128


def _center_box(height: int, width: int) -> tuple[int, int, int, int]:
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def fit_channels(images: UInt8[np.ndarray, "*n c"], in_chans: int) -> UInt8[np.ndarray, "*n k"]:
    """Turn colour into luminance for 1 channel (ITU-R 601, as Pillow rounds it), or repeat gray for 3.

    Raises:
        ValueError: If neither turns these channels into those.
    """
    if images.shape[-1] == in_chans:
        return images
    if (images.shape[-1], in_chans) == (1, 3):
        return np.repeat(images, 3, axis=-1)
    if (images.shape[-1], in_chans) == (3, 1):
        weighted = images.astype(np.uint32) @ np.array([[19595], [38470], [7471]], dtype=np.uint32)
        return ((weighted + 0x8000) >> 16).astype(np.uint8)
    raise ValueError(f"cannot turn {images.shape[-1]} channels into {in_chans}; images and models have 1 or 3")


def fit(images: UInt8[np.ndarray, "n h w c"], image_size: int, in_chans: int) -> UInt8[np.ndarray, "n h2 w2 c2"]:
    """Fit images to a model: short side resized, center crop; luminance or replication; or as they are."""
    if images.shape[1:3] != (image_size, image_size):
        images = np.stack([fit_image(np.asarray(image), image_size) for image in images])
    return np.ascontiguousarray(fit_channels(np.asarray(images), in_chans))


def fit_masks(masks: Iterable[Bool[np.ndarray, "_ _"]], image_size: int) -> Bool[np.ndarray, "n s s"]:
    """Fit each mask as `fit_mask` does."""
    return np.array([fit_mask(mask, image_size) for mask in masks], dtype=bool).reshape(-1, image_size, image_size)
