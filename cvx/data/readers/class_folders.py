"""Tell split folders from class folders, and name the classes."""

import os
import re
import shlex
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cvx.data.image_file import extensions

_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SET = re.compile(r"[ _-]?set$")
_ENCODINGS = ("cp932", "gb18030", "cp949", "cp437", "cp1252", "cp866")
"""Of archives packed on Windows or DOS: Japanese, Chinese, Korean, Western (two) and Russian."""
_RENAME = (
    "import os, sys; [os.rename(os.path.join(top, name), os.path.join(top, name.decode(sys.argv[2]).encode())) "
    "for top, names, _ in os.walk(os.fsencode(sys.argv[1]), topdown=False) for name in names "
    'if name.decode(errors="ignore").encode() != name]'
)
"""Renames all folders below one whose names are not UTF-8, from the encoding that is named after it."""

ClassFolders = dict[str, list[Path]]
"""By the class's name in NFC. More than one where an archive of macOS, which spells é as two characters, was added."""


@dataclass
class Ignored:
    """What lies in the folder and is no image of a class."""

    hidden: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    outside: list[str] = field(default_factory=list)

    def announce(self, path: Path) -> None:
        """Print one line, if there is something to say."""
        others = ", ".join(f"{ending or 'no ending'} {num:,}" for ending, num in sorted(self.endings.items()))
        counts = {
            f"{self.hidden:,} hidden": self.hidden,
            f"{len(self.outside):,} outside the class folders ({_some(sorted(self.outside))})": len(self.outside),
            f"{self.endings.total():,} that are no images ({others})": self.endings.total(),
        }
        if said := [text for text, count in counts.items() if count]:
            print(f"{path}: ignored files and folders: {'; '.join(said)}", file=sys.stderr)


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is none of the user's own."""
    return name.startswith(".") or name == "__MACOSX"


def find(path: Path, ignored: Ignored) -> dict[str, ClassFolders]:
    """Find the class folders of each split, in the order of the splits' names.

    Raises:
        ValueError: If there are none, they look like splits, their names are not UTF-8, or splits have other classes.
    """
    layout = _layout(path, ignored)
    for folder in layout.values():
        _count_loose(folder, ignored)
    found = {part: _classes(folder) for part, folder in layout.items()}
    _require_utf8(path, [folder for classes in found.values() for folders in classes.values() for folder in folders])
    train = found["train"]
    if len(train) < 2:
        raise ValueError(_too_few_classes(layout, list(train)))
    _require_classes(layout["train"], {name: _subfolders(folders[0]) for name, folders in train.items()})
    for part, classes in found.items():
        if list(classes) != list(train):
            raise ValueError(_unlabeled(layout, part, train, classes) or _differ(layout, part, train, classes))
    return found


def _layout(path: Path, ignored: Ignored) -> dict[str, Path]:
    """Find the folders that hold class folders: this one, its train, val and test, or those of its only folder."""
    if not path.is_dir():
        what = "is a file; unpack it" if path.exists() else "does not exist"
        raise ValueError(f"folder:{path} {what}; name a folder of class folders")
    names = _folders(path)
    if parts := _splits(path, names):
        return _beside(path, names, parts, ignored)
    if names and all(_part_of(name) for name in names):
        raise ValueError(
            f"{path} has {', '.join(names)}, but no train folder with class folders in it; "
            "put the images of each class into a folder with the class's name, in train"
        )
    deeper = {name: parts for name in names if (parts := _splits(path / name, _subfolders(path / name)))}
    if not deeper:
        return {"train": path}
    first, *others = [*deeper, *(name for name in names if name not in deeper and _holds_images(path / name))]
    if others:
        raise ValueError(
            f"{path} holds {first} with its splits ({_some(sorted(p.name for p in deeper[first].values()))}) and, "
            f"beside it, {_some(others)} with other images; name one dataset, as folder:{path / first}"
        )
    _beside(path, names, {"": path / first}, ignored)
    return _beside(path / first, _folders(path / first), deeper[first], ignored)


def _beside(path: Path, names: Iterable[str], parts: dict[str, Path], ignored: Ignored) -> dict[str, Path]:
    """Count what lies beside splits."""
    ignored.outside += [name for name in names if path / name not in parts.values()]
    _count_loose(path, ignored)
    return parts


def _part_of(name: str) -> str | None:
    return _PARTS.get(_SET.sub("", name.lower()))


def _splits(path: Path, names: Iterable[str]) -> dict[str, Path]:
    """Find the folders of splits by their names; none unless one is train and holds class folders."""
    named = [(part, path / name) for name in names if (part := _part_of(name))]
    if not any(part == "train" and _folders(folder) for part, folder in named):
        return {}
    parts: dict[str, Path] = {}
    for part, folder in named:
        if part in parts:
            both = f"both {parts[part].name} and {folder.name}"
            raise ValueError(f"{path} has {both}; keep one of them as {part}, hide the other (.{folder.name})")
        parts[part] = folder
    return parts


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))


def _subfolders(path: Path) -> list[str]:
    """List the folders in one that holds no images itself; one with a million is left at the first."""
    return [] if _holds_images(path) else _folders(path)


def _holds_images(path: Path) -> bool:
    with os.scandir(path) as entries:
        return any(_is_image(entry) for entry in entries)


def _num_images(path: Path) -> int:
    with os.scandir(path) as entries:
        return sum(_is_image(entry) for entry in entries)


def _is_image(entry: os.DirEntry[str]) -> bool:
    return not is_hidden(entry.name) and entry.name.lower().endswith(tuple(extensions())) and entry.is_file()


def _count_loose(folder: Path, ignored: Ignored) -> None:
    """Count the hidden and other files of a folder that should hold folders only."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if is_hidden(entry.name) or not entry.is_dir()]
    loose = [name for name in names if not is_hidden(name)]
    ignored.hidden += len(names) - len(loose)
    ignored.outside += loose


def _classes(folder: Path) -> ClassFolders:
    found: ClassFolders = {}
    for name in _folders(folder):
        found.setdefault(unicodedata.normalize("NFC", name), []).append(folder / name)
    return dict(sorted(found.items()))


def _require_utf8(path: Path, folders: Sequence[Path]) -> None:
    """Refuse names that cannot be written into a card, a table or a page."""
    for name in (str(path), path.absolute().name):
        if not _is_utf8(name):
            raise ValueError(f"the path {os.fsencode(name)!r} is not UTF-8; rename the folder, or name it by a link")
    others = sorted({os.fsencode(folder.name) for folder in folders if not _is_utf8(folder.name)})
    if others:
        reads = {code: text for code in _ENCODINGS if (text := _decoded(others[0], code))}
        told = ", ".join(f"{code}: {text!r}" for code, text in reads.items())
        command = shlex.join(["python", "-c", _RENAME, str(path.absolute()), next(iter(reads), "cp437")])
        raise ValueError(
            f"{path} has class folders whose names are not UTF-8: {_some(map(repr, others))}. "
            f"The first may mean {told or 'a name in none of the usual encodings'}. "
            f"Rename them by this command, whose last word is the encoding that is meant:\n{command}"
        )


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _decoded(name: bytes, encoding: str) -> str:
    try:
        return name.decode(encoding)
    except UnicodeDecodeError:
        return ""


def _require_classes(folder: Path, inside: Mapping[str, list[str]]) -> None:
    """Refuse "classes" that share one set of sub-folders: a model would learn which split an image is in."""
    opened = {name: _opened(folder / name, names) for name, names in inside.items()}
    shared = {name: names for name, names in opened.items() if names}
    kinds = {tuple(names) for names in shared.values()}
    if len(shared) < 2 or len(kinds) > 1 or len(names := kinds.pop()) < 2:
        return
    first, second = list(shared)[:2]
    what = f"the folders {_some(list(shared))} in {folder} hold the same folders: {_some(names)}"
    if all(map(_part_of, names)):
        raise ValueError(f"{what}; the splits lie in the classes: put the classes into the splits ({names[0]}/{first})")
    raise ValueError(
        f"{what}. These look like splits, domains or copies of one dataset with the classes {_some(names)}: name the "
        f"splits train, val and test, or train on one of them (folder:{folder / first}). "
        f"If {first} and {second} are classes, move their images out of those folders"
    )


def _opened(folder: Path, names: list[str]) -> list[str]:
    """Look into a folder's only folder: archives often unpack into a folder of their own name."""
    return _subfolders(folder / names[0]) if len(names) == 1 else names


def _too_few_classes(layout: Mapping[str, Path], classes: list[str]) -> str:
    folder = layout["train"]
    if classes:
        inside = f"move them up into {folder}" if len(layout) > 1 else f"name folder:{folder / classes[0]}"
        return (
            f"{folder} has only one class folder, {classes[0]!r}; classification needs two "
            f"(if the classes lie inside it, {inside})"
        )
    num = _num_images(folder)
    inside = f"holds {num:,} images but no class folders" if num else "holds no class folders"
    return f"{folder} {inside}; put the images of each class into a folder with the class's name"


def _unlabeled(layout: Mapping[str, Path], part: str, train: ClassFolders, classes: ClassFolders) -> str:
    """Say that a split holds no class folders, as where a benchmark hides the labels; "" if it does."""
    folder = layout[part]
    if len(classes) > 1 or set(classes) & set(train):
        return ""
    num = sum(map(_num_images, [folder, *(one for folders in classes.values() for one in folders)]))
    holds = f"{num:,} images in none of the class folders" if num else "none of the class folders"
    return (
        f"{folder} holds {holds} that {layout['train']} has: without labels, nothing can serve as {part}. "
        f"Put its images into such folders, or rename it .{folder.name} to hide it: {part} is then carved out of train"
    )


def _differ(layout: Mapping[str, Path], part: str, train: ClassFolders, classes: ClassFolders) -> str:
    sides = {layout["train"].name: set(train) - set(classes), layout[part].name: set(classes) - set(train)}
    told = [f"only in {folder} {_some(map(_spelled, sorted(names)))}" for folder, names in sides.items() if names]
    both = f"the classes of {layout['train']} and {layout[part]}"
    return f"{both} differ: {'; '.join(told)}; both need the same class folders"


def _spelled(name: str) -> str:
    """Quote a name so that two that look alike do not: beyond ASCII, by its characters' numbers too."""
    return repr(name) if name.isascii() else f"{name!r} ({name!a})"


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:8]) + (f" and {len(first) - 8:,} more" if len(first) > 8 else "")
