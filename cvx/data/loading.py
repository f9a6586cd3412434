"""Load a dataset by name as three splits of uint8 arrays."""

import difflib
import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cvx.data.cache import CachedPart, content_digest, fingerprint_of, materialize
from cvx.data.dataset_types import NUM_POINTS, OwnSize, Source, Split, Splits
from cvx.data.decoding import read_rows
from cvx.data.make_splits import check_source, split_train, stratified_order
from cvx.data.readers import cifar, digits, fashion_mnist, folder, hub, shapes, tiny_imagenet
from cvx.names import slug

DATASETS: dict[str, Callable[[Path], Source]] = {
    "digits": digits.source,
    "shapes32": functools.partial(shapes.source, image_size=32),
    "shapes64": functools.partial(shapes.source, image_size=64),
    "fashion_mnist": fashion_mnist.source,
    "cifar10": functools.partial(cifar.source, num_classes=10),
    "cifar100": functools.partial(cifar.source, num_classes=100),
    "tiny_imagenet": tiny_imagenet.source,
}
"""What has a name of its own; `folder:PATH` and `hub:ORG/NAME` are datasets too."""
DEFAULT_SIZE = 64
"""Side in pixels for images that differ in size when none is asked for."""
TEST_FRACTION = 0.2
"""Share carved from train where a dataset has no test part."""


def load(
    name: str, root: Path | str, image_size: int = 0, val_fraction: float = 0.1, *, own_size: bool = False
) -> Splits:
    """Load a dataset by name as three splits of uint8 arrays, each in one seeded stratified order.

    The first call decodes it into `<root>/cache`; later calls, of any process, map those files.

    Args:
        root: Where archives are looked for, downloaded to and the cache is kept.
        image_size: Side in pixels; 0 takes the dataset's own.
        val_fraction: Share of the train part kept for validation, where the dataset has no val part.
        own_size: Take the dataset's own size where it has one, and `image_size` only where images differ in size.

    Raises:
        ValueError: If the name is unknown, the data is damaged or a split would be without an image of some class.
        FileNotFoundError: If the data is nowhere; names every way to get it.
        OSError: If the cache cannot be written.
    """
    root = Path(root).expanduser()
    source = source_of(name, root)
    size = source.image_size or image_size if own_size else image_size
    return split_source(source, name, root, size, val_fraction)


def source_of(name: str, root: Path) -> Source:
    """Find a dataset by name, not decoded yet.

    Raises:
        ValueError: If the name is unknown; lists the known ones.
    """
    kind, _, rest = name.partition(":")
    if name in DATASETS:
        return DATASETS[name](root)
    if kind == "folder" and rest:
        return folder.source(Path(rest).expanduser())
    if kind == "hub" and rest:
        return hub.source(rest, root)
    near = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise ValueError(f"unknown dataset {name!r}{hint} known: {', '.join(DATASETS)}, folder:PATH, hub:ORG/NAME")


def split_source(source: Source, name: str, root: Path, image_size: int = 0, val_fraction: float = 0.1) -> Splits:
    """Turn a source into arrays and carve the splits it does not bring, as views.

    Raises:
        ValueError, OSError: As `load` does.
    """
    size = _size(source, name, image_size)
    check_source(source, name)
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction must be at least 0 and below 1, got {val_fraction:g}")
    fractions = {"test": TEST_FRACTION, "val": val_fraction}
    shares = {part: fraction for part, fraction in fractions.items() if part not in source.parts}
    labels = source.parts["train"].labels
    rows = split_train(labels[stratified_order(labels)], source.classes, shares)
    parts = materialize(source, root, slug(name), size)
    splits = {part: parts["train"].split[rows[part]] for part in rows} | {
        part: cached.split for part, cached in parts.items() if part != "train"
    }
    mean, std = _mean_std(parts["train"], rows["train"])
    return Splits(
        name,
        splits["train"],
        splits["val"],
        splits["test"],
        source.classes,
        mean,
        std,
        fingerprint_of(source, size),
        source.info,
        content_digest(source, root, slug(name), size),
        _own_size(source, size, splits["test"].head(NUM_POINTS)),
    )


def _size(source: Source, name: str, image_size: int) -> int:
    if image_size < 0:
        raise ValueError(f"image_size must be 0 (the dataset's own) or a side in pixels, got {image_size}")
    if not image_size and not source.image_size:
        print(f"the images of {name} differ in size: fitted to {DEFAULT_SIZE} pixels (--image_size)", file=sys.stderr)
    return image_size or source.image_size or DEFAULT_SIZE


def _mean_std(part: CachedPart, rows: slice) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std in [0, 1] per channel; a std below one gray level counts as one, so that it can divide."""
    sums, squares = part.moments[rows].sum(0).tolist()
    num = len(part.split[rows]) * math.prod(part.split.images.shape[1:3])
    variances = [(square * num - total * total) / num**2 for total, square in zip(sums, squares, strict=True)]
    mean = tuple(total / num / 255 for total in sums)
    return mean, tuple(max(math.sqrt(variance), 1.0) / 255 for variance in variances)


def _own_size(source: Source, size: int, samples: Split) -> OwnSize | None:
    """Say how the samples are had at the source's own size; nothing if they have it, or it has none."""
    own = source.image_size
    if own in (0, size):
        return None
    name = "test" if "test" in source.parts else "train"
    rows = np.array(samples.ids)
    return OwnSize(fingerprint_of(source, own), lambda: read_rows(source.parts[name], name, rows, own))
