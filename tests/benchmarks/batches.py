"""Augmented batches of 32-px images per second, against torchvision's transforms in a DataLoader."""

import time
from collections.abc import Iterator

import numpy as np
import torch
from measuring import Row, in_turns
from torchvision.transforms import v2

from cvx.data.augment import Augmentation
from cvx.data.batches import Batches
from cvx.data.dataset_types import Split

NUM, SIZE = 12_800, 128
KINDS = {
    "crop and flip": Augmentation(crop=True, flip=True),
    "crop, flip and erase": Augmentation(crop=True, flip=True, erase=0.25),
    "crop, flip and mixup": Augmentation(crop=True, flip=True, mixup=0.2),
    "everything": Augmentation(crop=True, flip=True, erase=0.25, mixup=0.2, cutmix=1.0),
}


def noise(num: int, side: int = 32, num_classes: int = 10) -> Split:
    """Make images of noise."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (num, side, side, 3), dtype=np.uint8)
    return Split(images, random.integers(0, num_classes, num), np.arange(num))


def loader(split: Split, size: int = SIZE, num_workers: int = 0) -> torch.utils.data.DataLoader:
    """Load the usual way: one image at a time through torchvision's transforms."""
    steps = v2.Compose(
        [
            v2.RandomCrop(32, padding=4, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.25] * 3),
        ]
    )
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2)
    pairs = torch.utils.data.TensorDataset(images, torch.from_numpy(split.labels))

    def collate(batch: list) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([steps(image) for image, _ in batch]), torch.stack([label for _, label in batch])

    return torch.utils.data.DataLoader(pairs, size, shuffle=True, num_workers=num_workers, collate_fn=collate)


def rows() -> Iterator[Row]:
    """Measure each kind of augmentation; the usual way on an eighth of the images."""
    split = noise(NUM)
    usual = loader(split[: NUM // 8])
    functions = {
        name: (lambda a=a: _through(Batches(split, SIZE, a, 10, seed=0, device="cpu"))) for name, a in KINDS.items()
    }
    times = in_turns(functions | {"usual": lambda: [None for _ in usual]}, 3)
    theirs = NUM / 8 / times["usual"]
    for name in KINDS:
        ours = NUM / times[name]
        yield Row(
            name, f"{ours:.0f} images/s", f"torchvision, DataLoader {theirs:.0f}", f"{ours / theirs:.0f}", "≥ 50,000"
        )
    begun = time.perf_counter()
    next(iter(Batches(split, SIZE, KINDS["everything"], 10, seed=0, device="cpu").epoch(0)))
    first = time.perf_counter() - begun
    yield Row("first batch", f"{first * 1e3:.0f} ms", "allowed 500 ms", f"{first / 0.5:.2f}", "0.02")


def _through(batches: Batches) -> None:
    for _ in batches.epoch(0):
        pass
