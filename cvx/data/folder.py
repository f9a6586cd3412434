"""One's own images: a folder of class folders, or train, val and test folders of them."""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cvx.data.image_file import Images, extensions, read_header, read_image, survey
from cvx.data.splits import Info, Part, Source, fit_channels

__all__ = ["read_image", "source"]

READER = "folder-1"
_PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass
class _Ignored:
    """What lies in the folder and is no image of a class."""

    hidden: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    outside: int = 0

    def announce(self, path: Path) -> None:
        """Print one line, if there is something to say."""
        others = ", ".join(f"{ending or 'no ending'} {num:,}" for ending, num in sorted(self.endings.items()))
        counts = {
            f"{self.hidden:,} hidden": self.hidden,
            f"{self.outside:,} outside the class folders": self.outside,
            f"{self.endings.total():,} that are no images ({others})": self.endings.total(),
        }
        if said := [text for text, count in counts.items() if count]:
            print(f"{path}: ignored files and folders: {'; '.join(said)}", file=sys.stderr)


@dataclass
class _Files:
    """The images of one part, by class, then path; plain strings, so that a million fit."""

    paths: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)


def source(path: Path) -> Source:
    """Read a folder of images: names, sizes, times and some headers now, the images when they are asked for.

    Class folders lie in it directly, or in `train` (and `val`, `valid` or `validation`, and `test`); images
    may lie deeper in a class folder. Classes are sorted by name. The images are taken as gray if the surveyed
    headers (see `image_file.survey`) all are; a color image found later is then turned into luminance.

    Raises:
        ValueError: If there is no such folder, it holds no class folders, a class has no images, or the
            classes of its parts differ.
    """
    path = path.expanduser()
    ignored = _Ignored()
    layout = _layout(path, ignored)
    classes = _classes(path, layout, ignored)
    found = {part: _scan(folder, classes, ignored) for part, folder in layout.items()}
    ignored.announce(path)
    train = found["train"].paths
    size, in_chans = survey(len(train), lambda index: read_header(train[index]))
    parts = {part: _part(files, in_chans) for part, files in found.items()}
    title = path.absolute().name
    info = Info(title, licence="your own images", citation=f"the folder {title}", flip=True)
    return Source(parts, classes, _fingerprint(found), size, info)


def _layout(path: Path, ignored: _Ignored) -> dict[str, Path]:
    """Find the folders that hold class folders: this one, or its train, val and test."""
    if not path.is_dir():
        what = "is a file; unpack it" if path.exists() else "does not exist"
        raise ValueError(f"folder:{path} {what}; name a folder of class folders")
    folders = _folders(path)
    train = [name for name in folders if name.lower() == "train" and _folders(path / name)]
    if not train and folders and {name.lower() for name in folders} <= set(_PARTS):
        raise ValueError(f"{path} has {', '.join(folders)}, but no train folder with class folders in it")
    if not train:
        return {"train": path}
    parts: dict[str, Path] = {}
    for name in folders:
        part = _PARTS.get(name.lower())
        if part in parts:
            raise ValueError(f"{path} has both {parts[part].name} and {name}; keep one of them")
        if part:
            parts[part] = path / name
        else:
            ignored.outside += 1
    return parts


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _classes(path: Path, layout: Mapping[str, Path], ignored: _Ignored) -> tuple[str, ...]:
    by_part = {part: _folders(folder) for part, folder in layout.items()}
    for folder in {path, *layout.values()}:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(".") or not entry.is_dir()]
        hidden = sum(name.startswith(".") for name in names)
        ignored.hidden += hidden
        ignored.outside += len(names) - hidden
    classes = by_part["train"]
    if len(classes) < 2:
        raise ValueError(_too_few_classes(layout["train"], classes))
    for part, names in by_part.items():
        if names != classes:
            apart = ", ".join(sorted(set(names) ^ set(classes)))
            raise ValueError(
                f"the classes of {layout['train']} and {layout[part]} differ: {apart} in only one of them; "
                "both need the same class folders"
            )
    return tuple(classes)


def _too_few_classes(folder: Path, classes: list[str]) -> str:
    if classes:
        return (
            f"{folder} has only one class folder, {classes[0]!r}; classification needs two "
            f"(if the classes lie inside it, name folder:{folder / classes[0]})"
        )
    with os.scandir(folder) as entries:
        num_images = sum(Path(entry.name).suffix.lower() in extensions() for entry in entries)
    inside = f"holds {num_images:,} images but no class folders" if num_images else "holds no class folders"
    return f"{folder} {inside}; put the images of each class into a folder with the class's name"


def _scan(folder: Path, classes: tuple[str, ...], ignored: _Ignored) -> _Files:
    """List the images under each class folder, and sum up what would show a change."""
    files, endings, inside = _Files(), extensions(), len(str(folder))
    for label, name in enumerate(classes):
        before = len(files.paths)
        for entry in _walk(str(folder / name), ignored, ()):
            ending = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122, a Path for each of a million takes longer
            if ending not in endings:
                ignored.endings[ending] += 1
                continue
            stat = entry.stat()
            files.paths.append(entry.path)
            files.labels.append(label)
            mark = f"{entry.path[inside:]} {stat.st_size} {stat.st_mtime_ns}\n"
            files.digest.update(os.fsencode(mark))
        if len(files.paths) == before:
            raise ValueError(f"class folder {folder / name} holds no images; add some, or remove or hide it (.{name})")
    return files


def _walk(folder: str, ignored: _Ignored, above: tuple[tuple[int, int], ...]) -> Iterator[os.DirEntry[str]]:
    """Yield the files under a folder in the order of names, through links but never in a circle."""
    stat = Path(folder).stat()
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    with os.scandir(folder) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            ignored.hidden += 1
        elif entry.is_dir():
            yield from _walk(entry.path, ignored, (*above, here))
        elif entry.is_file():
            yield entry
        else:
            ignored.endings["broken link"] += 1


def _fingerprint(found: Mapping[str, _Files]) -> str:
    digest = hashlib.sha256(READER.encode())
    for part, files in sorted(found.items()):
        digest.update(f"{part} {files.digest.hexdigest()}".encode())
    return digest.hexdigest()


def _part(files: _Files, in_chans: int) -> Part:
    def read(index: int) -> UInt8[np.ndarray, "h w c"]:
        return fit_channels(read_image(files.paths[index]), in_chans)

    return Part(Images(len(files.paths), read), np.array(files.labels, dtype=np.int64))
