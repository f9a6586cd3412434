"""Shuffled, augmented batches, assembled on the device."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from cvx.data.augment import Augmentation, Draws, _blend, crop_and_flip, draw, draw_mix, erase, mix_images, to_inputs
from cvx.data.dataset_types import Split


class Batches:
    """Batches of one split for one rank.

    Every random number comes from (seed, epoch, step) alone, and is drawn on the CPU for the global batch, of
    which a rank then takes its rows. So one seed gives the same images on any device and number of ranks, and
    wherever training resumes. timm's Mixup and RandomErasing draw from global generators, image by image, and
    torch's Beta takes no generator; hence numpy's, and code for whole batches.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        augmentation: Augmentation | None,
        num_classes: int,
        *,
        seed: int,
        device: torch.device | str,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        _check(len(split), batch_size, world)
        self.steps_per_epoch = len(split) // batch_size
        """The last, incomplete batch is dropped: every step has one size."""
        self._split = split
        self._batch_size = batch_size
        self._augmentation = augmentation or Augmentation()
        self._num_classes = num_classes
        self._seed = seed
        self._device = torch.device(device)
        size = batch_size // world
        self._own = np.arange(rank * size, (rank + 1) * size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k"]]]:
        """Yield inputs (channels_last) and target distributions of one pass, from step `start` on."""
        order = self._random(epoch, 0).permutation(len(self._split))
        for step in range(start, self.steps_per_epoch):
            rows = order[step * self._batch_size : (step + 1) * self._batch_size]
            yield self._batch(rows, self._random(epoch, 1 + step))

    def _random(self, epoch: int, place: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, epoch, place))

    def _batch(
        self, rows: Int64[np.ndarray, "n"], random: np.random.Generator
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b k"]]:
        shape = (len(rows), *self._split.images.shape[1:])
        draws = draw(self._augmentation, shape, random)
        mix = draw_mix(self._augmentation, shape, random)
        if mix is None:
            images, labels = self._augmented(rows, draws, self._own)
            return to_inputs(images), self._one_hot(labels)
        both = np.concatenate([self._own, mix.partners[self._own]])
        needed, places = np.unique(both, return_inverse=True)
        images, labels = self._augmented(rows, draws, needed)
        own, other = torch.from_numpy(places).to(self._device).chunk(2)
        # index_select copies whole images where indexing by a tensor goes pixel by pixel: 20 times as fast
        inputs = mix_images(images.index_select(0, own), images.index_select(0, other), mix)
        targets = _blend(self._one_hot(labels[own]), self._one_hot(labels[other]), mix.share)
        return inputs, targets

    def _augmented(
        self, rows: Int64[np.ndarray, "n"], draws: Draws, places: Int64[np.ndarray, "m"]
    ) -> tuple[UInt8[Tensor, "m h w c"], Int64[Tensor, "m"]]:
        """Copy some of a global batch to the device and augment each image by its own draws."""
        taken = rows[places]
        images, labels = (
            self._to_device(self._split.images[taken]),
            self._to_device(self._split.labels[taken]),
        )
        chosen = draws[places]
        if self._augmentation.crop or self._augmentation.flip:
            images = crop_and_flip(images, self._to_device(chosen.shift), self._to_device(chosen.flip))
        if self._augmentation.erase:
            images = self._erased(images, chosen)
        return images, labels

    def _erased(self, images: UInt8[Tensor, "m h w c"], draws: Draws) -> UInt8[Tensor, "m h w c"]:
        """Erase in those images alone that have a box: most have none."""
        places = np.flatnonzero(draws.boxes[:, 2])
        some, chosen = self._to_device(places), draws[places]
        filled = erase(images.index_select(0, some), self._to_device(chosen.boxes), self._to_device(chosen.colors))
        return images.index_copy_(0, some, filled)

    def _to_device(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type != "cuda":
            return tensor.to(self._device)
        return tensor.pin_memory().to(self._device, non_blocking=True)

    def _one_hot(self, labels: Int64[Tensor, "m"]) -> Float[Tensor, "m k"]:
        return F.one_hot(labels, self._num_classes).float()


def _check(num_images: int, batch_size: int, world: int) -> None:
    if not 1 <= batch_size <= num_images:
        raise ValueError(f"batch_size must be from 1 to the {num_images} training images, got {batch_size}")
    if batch_size % world:
        raise ValueError(f"batch_size must be a multiple of the {world} processes that share it, got {batch_size}")
