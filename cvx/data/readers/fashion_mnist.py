"""Fashion-MNIST: IDX files, gzipped or not, from the data root or Debian's package; else the Hub."""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from cvx.data.dataset_types import Info, Part, Source
from cvx.data.readers import hub
from cvx.data.readers.hub_table import Columns

READER = "fashion-mnist-1"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# Flips are on: a mirrored garment is of the same kind. Shoes point to one side in nearly all images, so flips
# add views that the test images lack; they change no label.
INFO = Info(
    title="Fashion-MNIST",
    licence="MIT (Zalando SE)",
    citation=(
        "Han Xiao, Kashif Rasul and Roland Vollgraf. Fashion-MNIST: a Novel Image Dataset for Benchmarking "
        "Machine Learning Algorithms. 2017. arXiv:1708.07747."
    ),
    flip=True,
)

LARGEST = 2**26
"""Bytes of one unpacked file at most; the training images are 47 million."""
_PAGE = "https://github.com/zalandoresearch/fashion-mnist"
_HUB = Columns("zalando-datasets/fashion_mnist", image="image", label="label")
_PARTS = {"train": "train", "test": "t10k"}
_FILES = [f"{stem}-{kind}" for stem in _PARTS.values() for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
# MNIST's files have the same names; its training labels begin so, in their own order.
_MNIST = (5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5, 3, 6, 1, 7)


def source(root: Path, debian: Path = DEBIAN) -> Source:
    """Find Fashion-MNIST in the data root, in Debian's package, or on the Hub; images keep their one channel.

    The fingerprint is that of the content, so every copy of the files has the same one.

    Raises:
        ValueError: If a file is damaged, not IDX, of the wrong length, or MNIST's.
        FileNotFoundError: If the data is nowhere and cannot be fetched; names every way to get it.
    """
    for folder in (root / "fashion-mnist", root / "FashionMNIST" / "raw", root, debian):
        found = {name: path for name in _FILES if (path := _path(folder, name))}
        if len(found) == len(_FILES):
            return _assemble(found)
        if found:
            missing = [f"{name}[.gz]" for name in _FILES if name not in found]
            raise ValueError(f"{folder} lacks {', '.join(missing)}; add what is missing or remove the others")
    return hub.known("fashion_mnist", root, _HUB, INFO, _ways(root))


def _ways(root: Path) -> list[str]:
    files = ", ".join(f"{name}.gz" for name in _FILES)
    return [
        f"put {files} (from {_PAGE}) into {root.absolute() / 'fashion-mnist'}",
        f"install Debian's package: apt install dataset-fashion-mnist (it puts them into {DEBIAN})",
    ]


def _path(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _assemble(found: dict[str, Path]) -> Source:
    parts, digest = {}, hashlib.sha256(READER.encode())
    for part, stem in _PARTS.items():
        images_path, labels_path = found[f"{stem}-images-idx3-ubyte"], found[f"{stem}-labels-idx1-ubyte"]
        images = read_idx(images_path, (28, 28))
        labels = _labels(labels_path)
        if len(images) != len(labels):
            raise ValueError(f"{images_path} has {len(images)} images, {labels_path.name} {len(labels)} labels")
        digest.update(labels.tobytes())
        digest.update(images.data)
        parts[part] = Part(images[..., None], labels)
    return Source(parts, CLASSES, digest.hexdigest(), 28, INFO)


def _labels(path: Path) -> Int64[np.ndarray, "n"]:
    labels = read_idx(path, ()).astype(np.int64)
    if labels.size and labels.max() >= len(CLASSES):
        raise ValueError(f"{path} has label {labels.max()}, but Fashion-MNIST has classes 0 to {len(CLASSES) - 1}")
    if tuple(labels[: len(_MNIST)]) == _MNIST:
        raise ValueError(f"{path} has MNIST's digits; Fashion-MNIST's file has the same name: {_PAGE}")
    return labels


def read_idx(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "n ..."]:
    """Read an IDX file of bytes, gzipped or not whatever its name says.

    Args:
        shape: Of one item.

    Raises:
        ValueError: If it is damaged, no IDX file of bytes, of another shape, or not as long as it says.
    """
    content = _content(path)
    header = 4 * (2 + len(shape))
    magic = 0x0800 + 1 + len(shape)
    numbers = np.frombuffer(content[:header], ">u4").tolist() if len(content) >= header else []
    if numbers[:1] != [magic]:
        raise ValueError(f"{path} is not an IDX file of bytes in {1 + len(shape)} dimensions (magic {magic:#06x})")
    if tuple(numbers[2:]) != shape:
        raise ValueError(f"{path} has items of {tuple(numbers[2:])}, expected {shape}")
    expected = header + numbers[1] * int(np.prod(shape))
    if len(content) != expected:
        raise ValueError(f"{path} holds {len(content)} bytes, its header says {expected}; get it again from {_PAGE}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(numbers[1], *shape)


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        with gzip.open(path) as stream:
            content = stream.read(LARGEST + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"is damaged or was not downloaded to its end ({error})"
        raise ValueError(f"{path} {what}; get it again from {_PAGE}") from None
    if len(content) > LARGEST:
        raise ValueError(f"{path} unpacks to more than {LARGEST:,} bytes, which no file of the set has")
    return content
