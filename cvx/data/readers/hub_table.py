"""Read images and labels from a table that `datasets` loaded: choose its columns and splits."""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from cvx.data.dataset_types import Info, Part, Source
from cvx.data.image_file import Header, Images, Survey, read_header, read_image, survey, warn_of_few_levels
from cvx.data.transforms import fit_channels
from cvx.files import sound_text

READER = "table-1"

# A datasets.Dataset; the import takes a second, so only the functions that need it pay.
Table = Any

_SPLITS = {"train": ("train",), "val": ("validation", "valid", "val", "dev"), "test": ("test",)}


@dataclass(frozen=True)
class Columns:
    """A dataset of the Hub and which of its columns to read; "" where its features decide."""

    repository: str
    config: str = ""
    image: str = ""
    label: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Class names to correct."""

    @property
    def folder(self) -> str:
        """Name its folder in `<root>/hub`."""
        return "--".join([*self.repository.split("/"), *([self.config] if self.config else [])])


def read(dataset: Mapping[str, Table], columns: Columns, info: Info | None) -> Source:
    """Make a source of a loaded dataset: its image column, its label column, its splits.

    Rows without a label (None or -1, as where a benchmark hides them) are left out; a line counts them.

    Raises:
        ValueError: If there is no train split, or not exactly one column of either kind to choose from.
    """
    from datasets import ClassLabel, Image

    splits = _splits(dataset, columns)
    features = splits["train"].features
    image = _column(features, Image, columns.image, columns, "images")
    label = _column(features, ClassLabel, columns.label, columns, "labels")
    looked, parts = Survey(-1, 0), {}
    for part, split in splits.items():
        name = f"{part} of {columns.repository}"
        labels = _labels(split, label)
        rows = np.flatnonzero(labels >= 0)
        if len(rows) < len(labels):
            print(f"{name}: left out {len(labels) - len(rows):,} rows without a label", file=sys.stderr)
        if len(rows):
            cells = _Cells(split, image, rows, name)
            if part == "train":
                looked = survey(len(rows), cells.header)
                if looked.silent:
                    warn_of_few_levels(name, len(rows), cells.header, partial(cells.read, looked.in_chans))
            parts[part] = Part(Images(len(rows), partial(cells.read, looked.in_chans)), labels[rows])
    if "train" not in parts:
        raise ValueError(f"train of {columns.repository} has no row with a label; choose another column or dataset")
    classes = tuple(sound_text(columns.renamed.get(name, name)) for name in features[label].names)
    fingerprint = _fingerprint(splits, image, label, looked.stated)
    return Source(parts, classes, fingerprint, looked.image_size, info or _info(splits["train"], columns))


class _Cells:
    """The image column of one split, read without `datasets` decoding it."""

    def __init__(self, split: Table, column: str, rows: Int64[np.ndarray, "n"], name: str) -> None:
        from datasets import Image

        self._split = split.select_columns([column]).cast_column(column, Image(decode=False))
        self._column, self._rows, self._name = column, rows, name

    def header(self, index: int) -> Header:
        return read_header(*self._file(index))

    def read(self, in_chans: int, index: int) -> UInt8[np.ndarray, "h w c"]:
        return fit_channels(read_image(*self._file(index)), in_chans)

    def _file(self, index: int) -> tuple[bytes, str]:
        row = int(self._rows[index])
        name = f"row {row} of {self._name}"
        content = (self._split[row][self._column] or {}).get("bytes")
        if content is None:
            raise ValueError(f"{name} holds no image; remove its folder and run again to fetch the dataset anew")
        return content, name


def _splits(dataset: Mapping[str, Table], columns: Columns) -> dict[str, Table]:
    found = {}
    for part, names in _SPLITS.items():
        for name in names:
            if name in dataset and part not in found:
                found[part] = dataset[name]
    if not found and len(dataset) == 1:
        found = {"train": next(iter(dataset.values()))}
    if "train" not in found:
        raise ValueError(f"{columns.repository} has no split 'train', only {', '.join(dataset)}")
    return found


def _column(features: Mapping[str, Any], kind: type, wanted: str, columns: Columns, what: str) -> str:
    """Choose the one column of a kind, or the one asked for."""
    candidates = [name for name, feature in features.items() if isinstance(feature, kind)]
    all_of_them = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
    if wanted in candidates:
        return wanted
    if wanted:
        raise ValueError(f"{columns.repository} has no {kind.__name__} column {wanted!r}; it has {all_of_them}")
    if not candidates:
        raise ValueError(f"{columns.repository} has no {kind.__name__} column for {what}; it has {all_of_them}")
    if len(candidates) > 1:
        choose = f"; choose one by hub:{columns.repository}#{candidates[0]}" if what == "labels" else ""
        raise ValueError(f"{columns.repository} has several {kind.__name__} columns: {', '.join(candidates)}{choose}")
    return candidates[0]


def _labels(split: Table, label: str) -> Int64[np.ndarray, "n"]:
    return np.array([-1 if value is None else value for value in split[label][:]], dtype=np.int64)


def _fingerprint(splits: Mapping[str, Table], image: str, label: str, stated: bool) -> str:
    """Sum up the splits; files that say how many of their 16 bits are used were once read as if they used all."""
    digest = hashlib.sha256(f"{READER} {image} {label}{' stated' * stated}".encode())
    for part, split in splits.items():
        files = [Path(file["filename"]) for file in split.cache_files]
        digest.update(f"{part} {split.features} {[(f.name, f.stat().st_size) for f in files]}".encode())
        digest.update(_labels(split, label).tobytes())
    return digest.hexdigest()


def _info(split: Table, columns: Columns) -> Info:
    page = f"https://huggingface.co/datasets/{columns.repository}"
    return Info(
        title=columns.repository,
        licence=split.info.license or f"see {page}",
        citation=split.info.citation.strip() or page,
        flip=True,
        note="whether a mirrored image keeps its class is not known; flips are on",
    )
