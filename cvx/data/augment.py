"""Augment batches on the device: crop, flip, erase, mixup, cutmix."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

ERASED_AREA = (0.02, 0.33)
"""Least and largest share of the image that is erased (Zhong et al., 2017, section 4.3, arXiv:1708.04896)."""
ERASED_ASPECT = 0.3
"""Height over width of what is erased lies between this and its reciprocal."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images; pixels move and mix, colors stay."""

    crop: bool = False
    """Pad by an eighth of the size, reflecting, and crop at random."""
    flip: bool = False
    """Mirror left to right, with probability one half."""
    erase: float = 0.0
    """Probability of filling a rectangle with one random color (Zhong et al., 2017, arXiv:1708.04896)."""
    mixup: float = 0.0
    """Alpha of mixup (Zhang et al., 2017, arXiv:1710.09412); 0 is off."""
    cutmix: float = 0.0
    """Alpha of CutMix (Yun et al., 2019, arXiv:1905.04899); 0 is off. With both, each batch gets one."""


@dataclass(frozen=True)
class Mix:
    """How the images of a batch are mixed with their partners."""

    partners: Int64[np.ndarray, "b"]
    share: float
    """What an image keeps of itself, in [0, 1]."""
    box: tuple[int, int, int, int] | None
    """Top, left, bottom, right of what comes from the partner; None blends the whole image."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Every random number of one global batch but those of the mix."""

    shift: Int64[np.ndarray, "b 2"]
    """Pixels down and right that the crop starts from."""
    flip: Bool[np.ndarray, "b"]
    boxes: Int64[np.ndarray, "b 4"]
    """Top, left, bottom, right of what is erased; empty where nothing is."""
    colors: UInt8[np.ndarray, "b c"]

    def __getitem__(self, places: Int64[np.ndarray, "m"]) -> "Draws":
        return Draws(self.shift[places], self.flip[places], self.boxes[places], self.colors[places])


def draw(augmentation: Augmentation, shape: tuple[int, ...], random: np.random.Generator) -> Draws:
    """Draw what happens to each image of a batch [b h w c]; a switch changes no other's numbers."""
    num, height, width, channels = shape
    pad = (height // 8, width // 8)
    shift = random.integers(np.negative(pad), np.add(pad, 1), (num, 2))
    flip = random.random(num) < 0.5
    boxes = _draw_boxes(num, height, width, random)
    erased = random.random(num) < augmentation.erase
    colors = random.integers(0, 256, (num, channels), dtype=np.uint8)
    return Draws(shift * augmentation.crop, flip & augmentation.flip, boxes * erased[:, None], colors)


def _draw_boxes(num: int, height: int, width: int, random: np.random.Generator) -> Int64[np.ndarray, "num 4"]:
    """Draw rectangles inside the image; one that is longer than the image is cut to it, not drawn again."""
    area = random.uniform(*ERASED_AREA, num) * height * width
    aspect = np.exp(random.uniform(np.log(ERASED_ASPECT), -np.log(ERASED_ASPECT), num))
    high = np.clip(np.rint(np.sqrt(area * aspect)), 1, height)
    wide = np.clip(np.rint(np.sqrt(area / aspect)), 1, width)
    top = np.floor(random.random(num) * (height - high + 1))
    left = np.floor(random.random(num) * (width - wide + 1))
    return np.stack([top, left, top + high, left + wide], axis=1).astype(np.int64)


def draw_mix(augmentation: Augmentation, shape: tuple[int, ...], random: np.random.Generator) -> Mix | None:
    """Draw one mix for a whole batch [b h w c], or None where neither kind is on."""
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(augmentation, kind)]
    if not kinds:
        return None
    kind = kinds[random.integers(len(kinds))]
    alpha = getattr(augmentation, kind)
    share = float(random.beta(alpha, alpha))
    partners = random.permutation(shape[0])
    if kind == "mixup":
        return Mix(partners, share, None)
    height, width = shape[1:3]
    box = _draw_cut(share, height, width, random)
    inside = (box[2] - box[0]) * (box[3] - box[1])
    return Mix(partners, 1 - inside / (height * width), box)


def _draw_cut(share: float, height: int, width: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw CutMix's box: about 1 - share of the image, around any pixel, cut at the border (algorithm 1)."""
    side = np.sqrt(1 - share)
    y, x = random.integers(height), random.integers(width)
    high, wide = int(height * side), int(width * side)
    top, left = int(y) - high // 2, int(x) - wide // 2
    bottom, right = top + high, left + wide
    return max(top, 0), max(left, 0), min(bottom, height), min(right, width)


def crop_and_flip(
    images: UInt8[Tensor, "b h w c"], shift: Int64[Tensor, "b 2"], flip: Bool[Tensor, "b"]
) -> UInt8[Tensor, "b h w c"]:
    """Shift each image, reflecting at the border, then mirror some: one gather of uint8 pixels."""
    num, height, width, channels = images.shape
    across = torch.arange(width, device=images.device).expand(num, width)
    across = torch.where(flip[:, None], width - 1 - across, across)
    y = _reflect(torch.arange(height, device=images.device) + shift[:, :1], height)
    x = _reflect(across + shift[:, 1:], width)
    first = torch.arange(num, device=images.device)[:, None, None] * height
    pixels = (first + y[:, :, None]) * width + x[:, None, :]
    return images.reshape(-1, channels).index_select(0, pixels.view(-1)).view(images.shape)


def _reflect(index: Int64[Tensor, "b n"], size: int) -> Int64[Tensor, "b n"]:
    return size - 1 - (size - 1 - index.abs()).abs()


def erase(
    images: UInt8[Tensor, "b h w c"], boxes: Int64[Tensor, "b 4"], colors: UInt8[Tensor, "b c"]
) -> UInt8[Tensor, "b h w c"]:
    """Fill each image's box with its color."""
    rows = torch.arange(images.shape[1], device=images.device)
    columns = torch.arange(images.shape[2], device=images.device)
    top, left, bottom, right = boxes[:, :, None].unbind(1)
    inside_y = (rows >= top) & (rows < bottom)
    inside_x = (columns >= left) & (columns < right)
    inside = inside_y[:, :, None, None] & inside_x[:, None, :, None]
    return torch.where(inside, colors[:, None, None, :], images)


def mix_images(own: UInt8[Tensor, "b h w c"], other: UInt8[Tensor, "b h w c"], mix: Mix) -> Float[Tensor, "b c h w"]:
    """Blend images with their partners, or paste the box of the partners into them (`own` is written to)."""
    if mix.box is None:
        return _blend(to_inputs(own), to_inputs(other), mix.share)
    top, left, bottom, right = mix.box
    own[:, top:bottom, left:right] = other[:, top:bottom, left:right]
    return to_inputs(own)


def to_inputs(images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
    """Turn stored pixels into a classifier's inputs in [0, 1]; the memory stays as it lies: channels_last."""
    return images.permute(0, 3, 1, 2).float().div_(255)


def _blend(own: Float[Tensor, "*n"], other: Float[Tensor, "*n"], share: float) -> Float[Tensor, "*n"]:
    """Mix in place, by products and a sum: a fused operation may round differently on another device."""
    return own.mul_(share).add_(other.mul_(1 - share))
