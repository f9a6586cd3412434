"""Tiny-ImageNet: the official zip, read without unpacking, or its folder; else downloaded from Stanford."""

import hashlib
import os
import sys
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cvx.data.dataset_types import Info, Part, Source
from cvx.data.download import DownloadError, check_zip, download, unavailable
from cvx.data.image_file import Images, read_image
from cvx.data.transforms import fit_channels

READER = "tiny-imagenet-1"
URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
SIZE = 248_100_043
"""Bytes of the official zip."""
FOLDER = "tiny-imagenet-200"
LARGEST = 2**26
"""Bytes of one unpacked member at most; the largest of the set is words.txt with 3 million."""

INFO = Info(
    title="Tiny-ImageNet",
    licence="ImageNet's terms of access: non-commercial research and education",
    citation=(
        "Ya Le and Xuan Yang. Tiny ImageNet Visual Recognition Challenge. Stanford CS 231N, 2015. "
        "Images and labels: Jia Deng et al. ImageNet: A Large-Scale Hierarchical Image Database. CVPR 2009."
    ),
    flip=True,
    note="the labels of the official test part are hidden, so the official val part serves as test",
)


class _Folder:
    """The files under tiny-imagenet-200/, each with a mark that changes when its content does."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def files(self) -> Iterable[tuple[str, str]]:
        for folder, _, names in os.walk(self.place):
            under = Path(folder).relative_to(self.place).as_posix().removeprefix(".")
            for name in names:
                stat = os.stat(f"{folder}/{name}")  # noqa: PTH116, 110,000 times a Path takes too long
                yield f"{under}/{name}".removeprefix("/"), f"{stat.st_size} {stat.st_mtime_ns}"

    def read(self, path: str) -> bytes:
        return (self.place / path).read_bytes()


class _Zip:
    """The same in one open archive, behind a lock: a read takes a fraction of the decoding after it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._lock = threading.Lock()
        try:
            self._archive = zipfile.ZipFile(place)
        except zipfile.BadZipFile as error:
            raise _damaged(place, str(error)) from None

    def files(self) -> Iterable[tuple[str, str]]:
        for member in self._archive.infolist():
            if member.filename.startswith(FOLDER + "/") and not member.is_dir():
                yield member.filename.removeprefix(FOLDER + "/"), f"{member.file_size} {member.CRC:08x}"

    def read(self, path: str) -> bytes:
        try:
            with self._lock:
                if (size := self._archive.getinfo(f"{FOLDER}/{path}").file_size) > LARGEST:
                    raise _damaged(self.place, f"{path} unpacks to {size:,} bytes, which no file of the set has")
                return self._archive.read(f"{FOLDER}/{path}")
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise _damaged(self.place, f"{path}: {error}") from None


_Tree = _Folder | _Zip


def _damaged(place: Path, reason: str) -> ValueError:
    what = f"is damaged or was not downloaded to its end ({reason})"
    return ValueError(f"{place} {what}; delete it and run again to fetch it anew")


def source(root: Path, url: str = URL, size: int = SIZE) -> Source:
    """Find Tiny-ImageNet in the data root, or download it there; the official val part serves as test.

    The zip's fingerprint comes from the checksums it holds, so it is the same on every machine; the folder's
    from names, sizes and times.

    Raises:
        ValueError: If the archive or folder is damaged or incomplete.
        FileNotFoundError: If the data is not there and cannot be fetched; names every way to get it.
    """
    folder, archive = root / FOLDER, root / f"{FOLDER}.zip"
    if folder.is_dir() and not archive.is_file():
        return _assemble(_Folder(folder))
    if not archive.is_file():
        try:
            download(url, archive, size=size, verify=check_zip)
        except DownloadError as error:
            raise unavailable("tiny_imagenet", root, str(error), _ways(root, url)) from None
    return _assemble(_Zip(archive))


def _ways(root: Path, url: str) -> list[str]:
    return [
        f"put {FOLDER}.zip (from {url}) into {root.absolute()}",
        f"put its unpacked folder {FOLDER} into {root.absolute()}",
        "with a network, run the command again: it goes on where it broke off",
    ]


def _assemble(tree: _Tree) -> Source:
    files = dict(tree.files())
    wnids = _text(tree, files, "wnids.txt").split()
    if not wnids or len(set(wnids)) != len(wnids):
        raise ValueError(f"wnids.txt in {tree.place} must name each class once, got {len(wnids)} lines")
    number = {wnid: index for index, wnid in enumerate(wnids)}
    train = _train_files(tree, files, number)
    test = _test_files(tree, files, number)
    _announce_counts(tree, len(train), len(test))
    digest = hashlib.sha256(READER.encode())
    for path in sorted(files):
        digest.update(f"{path} {files[path]}\n".encode())
    parts = {"train": _part(tree, train), "test": _part(tree, test)}
    return Source(parts, class_names(wnids, _text(tree, files, "words.txt")), digest.hexdigest(), 64, INFO)


def _text(tree: _Tree, files: dict[str, str], path: str) -> str:
    if path not in files:
        raise ValueError(f"{tree.place} lacks {path}; unpack or download {FOLDER}.zip again")
    try:
        return tree.read(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} in {tree.place} is no text ({error}); unpack it again") from None


def _train_files(tree: _Tree, files: dict[str, str], number: dict[str, int]) -> list[tuple[str, int]]:
    """List the training images in the order of classes, then of names."""
    found = []
    for path in files:
        match path.split("/"):
            case ["train", wnid, "images", name] if wnid in number and name.upper().endswith(".JPEG"):
                found.append((path, number[wnid]))
    counts = Counter(label for _, label in found)
    if empty := [wnid for wnid, label in number.items() if not counts[label]]:
        where = f"train/{empty[0]}/images ({len(empty)} such classes)"
        raise ValueError(f"{tree.place} has no images in {where}; unpack it again")
    return sorted(found, key=lambda item: (item[1], len(item[0]), item[0]))


def _test_files(tree: _Tree, files: dict[str, str], number: dict[str, int]) -> list[tuple[str, int]]:
    """List the images of the official val part in the order of its annotations."""
    found = []
    for line in _text(tree, files, "val/val_annotations.txt").splitlines():
        name, wnid, *_ = [*line.split("\t"), ""]
        path = f"val/images/{name}"
        if wnid not in number or path not in files:
            what = f"val_annotations.txt in {tree.place} names {line[:60]!r}"
            raise ValueError(f"{what}: no such class or image; unpack it again")
        found.append((path, number[wnid]))
    return found


def _announce_counts(tree: _Tree, num_train: int, num_test: int) -> None:
    if (num_train, num_test) != (100_000, 10_000):
        print(
            f"{tree.place}: {num_train:,} + {num_test:,} images, the official set has 100,000 + 10,000",
            file=sys.stderr,
        )


def class_names(wnids: list[str], words: str) -> tuple[str, ...]:
    """Give each WordNet id its first synonym, with the id beside it where two classes share that."""
    synonyms = dict(line.split("\t", 1) for line in words.splitlines() if "\t" in line)
    names = [synonyms.get(wnid, wnid).split(",")[0].strip() for wnid in wnids]
    counts = Counter(names)
    return tuple(f"{name} ({wnid})" if counts[name] > 1 else name for name, wnid in zip(names, wnids, strict=True))


def _part(tree: _Tree, items: list[tuple[str, int]]) -> Part:
    def read(index: int) -> UInt8[np.ndarray, "h w 3"]:
        path = items[index][0]
        return fit_channels(read_image(tree.read(path), f"{path} in {tree.place}"), 3)

    return Part(Images(len(items), read), np.array([label for _, label in items], dtype=np.int64))
