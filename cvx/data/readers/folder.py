"""A user's own images: a folder of class folders, or train, val and test folders of them."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cvx.data.dataset_types import Info, Part, Source
from cvx.data.image_file import Images, extensions, read_header, read_image, survey, warn_of_few_levels
from cvx.data.readers.class_folders import ClassFolders, Ignored, find, is_hidden
from cvx.data.transforms import fit_channels

__all__ = ["read_image", "source"]

READER = "folder-1"


@dataclass
class _Files:
    """The images of one part, by class, then path; plain strings, so that a million fit."""

    classes: tuple[str, ...]
    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)


def source(path: Path) -> Source:
    """Read a folder of images: names, sizes, times and some headers now, the images when they are asked for.

    Class folders lie in it directly, or in folders of splits: `train`, and `val` and `test`, by any of their usual
    names in any case (`Training`, `valid`, `dev`, `test_set`), which may lie together in its only folder. Images may
    lie deeper in a class folder. Classes are sorted by name, in Unicode's NFC. The images are taken as gray if the
    surveyed headers (see `image_file.survey`) all are; a color image found later is then turned into luminance.

    Raises:
        ValueError: If there is no such folder, it holds no class folders or what only looks like some, a class has no
            images or a name that is not UTF-8, or the classes of its parts differ.
    """
    path = path.expanduser()
    ignored = Ignored()
    found = {part: _scan(classes, ignored) for part, classes in find(path, ignored).items()}
    classes = found["train"].classes
    ignored.announce(path)
    train = found["train"].paths
    header, read = (lambda index: read_header(train[index])), (lambda index: read_image(train[index]))
    looked = survey(len(train), header)
    if looked.silent:
        warn_of_few_levels(str(path), len(train), header, read)
    parts = {part: _part(files, looked.in_chans) for part, files in found.items()}
    title = path.absolute().name
    info = Info(title, licence="your own images", citation=f"the folder {title}", flip=True)
    return Source(parts, classes, _fingerprint(found, looked.stated), looked.image_size, info)


def _scan(classes: ClassFolders, ignored: Ignored) -> _Files:
    """List the images of each class, and sum up what would show a change."""
    files, endings = _Files(tuple(classes)), extensions()
    for label, (name, folders) in enumerate(classes.items()):
        before = len(files.paths)
        for folder, entry in _entries(folders, ignored):
            ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122, a Path for each of a million takes longer
            if ending not in endings:
                ignored.endings[ending] += 1
                continue
            stat = entry.stat()
            files.paths.append(entry.path)
            files.labels.append(label)
            mark = f"/{name}{entry.path[len(folder) :]} {stat.st_size} {stat.st_mtime_ns}\n"
            files.digest.update(os.fsencode(mark))
        if len(files.paths) == before:
            raise ValueError(f"class folder {folders[0]} holds no images; add some, or remove or hide it (.{name})")
    return files


def _entries(folders: list[Path], ignored: Ignored) -> Iterator[tuple[str, os.DirEntry[str]]]:
    for folder in map(str, folders):
        for entry in _walk(folder, ignored, ()):
            yield folder, entry


def _walk(folder: str, ignored: Ignored, above: tuple[tuple[int, int], ...]) -> Iterator[os.DirEntry[str]]:
    """Yield the files under a folder in the order of names, through links but never in a circle."""
    stat = Path(folder).stat()
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    with os.scandir(folder) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    for entry in entries:
        if is_hidden(entry.name):
            ignored.hidden += 1
        elif entry.is_dir():
            yield from _walk(entry.path, ignored, (*above, here))
        elif entry.is_file():
            yield entry
        else:
            ignored.endings["broken link"] += 1


def _fingerprint(found: Mapping[str, _Files], stated: bool) -> str:
    """Sum up the parts; files that say how many of their 16 bits are used were once read as if they used all."""
    digest = hashlib.sha256(READER.encode() + b" stated" * stated)
    for part, files in sorted(found.items()):
        digest.update(f"{part} {files.digest.hexdigest()}".encode())
    return digest.hexdigest()


def _part(files: _Files, in_chans: int) -> Part:
    def read(index: int) -> UInt8[np.ndarray, "h w c"]:
        return fit_channels(read_image(files.paths[index]), in_chans)

    return Part(Images(len(files.paths), read), np.array(files.labels, dtype=np.int64))
