"""Small images: as a split, as folders of classes, as files of every mode; and a look for one inside a picture."""

import io

import numpy as np
from PIL import Image

from cvx.data.dataset_types import Split

COLOR = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GRAY = COLOR[..., 0]


def make_split(num, size=9):
    """Return a split of random images."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (num, size, size, 3), dtype=np.uint8)
    images.flags.writeable = False
    return Split(images, random.integers(0, 4, num), np.arange(num))


def save_image(path, color="red", size=(8, 8), mode="RGB"):
    """Write an image of one color, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def save_birds(path, num=3, **options):
    """Write a folder of two classes."""
    for name in ("owl", "duck"):
        for i in range(num):
            save_image(path / name / f"{i}.png", **options)
    return path


def encoded_as(image, kind, **options):
    """Return an image file's bytes, as Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def holds(figure, tile):
    """Tell whether a tile stands in a figure pixel by pixel."""
    h, w = tile.shape[:2]
    rows, columns = np.nonzero((figure[: -h + 1, : -w + 1] == tile[0, 0]).all(axis=-1))
    return any(np.array_equal(figure[y : y + h, x : x + w], tile) for y, x in zip(rows, columns, strict=True))
