"""The fixed test images that travel with models: a folder of arrays and a card."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from cvx.data.dataset_types import Split, Splits
from cvx.files import read_json, write_json
from cvx.store.checkpoint import digest

CARD = "card.json"
ARRAYS = ("images", "labels", "ids", "masks")


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """The fixed test images of a dataset that travel with its models."""

    dataset: str
    split: Split
    classes: tuple[str, ...]
    fingerprint: str
    folder: Path
    info: dict[str, Any]
    source: str = ""
    """Digest of the dataset's content; empty in samples from before there were digests."""

    @property
    def reference(self) -> str:
        """Return the name that always means these samples, `NAME:vK`."""
        return f"{self.folder.parent.name}:{self.folder.name}"

    @property
    def identity(self) -> str:
        """Return what is the same wherever and at whatever size these images are kept."""
        return self.source or self.fingerprint


def write_samples(folder: Path, splits: Splits) -> None:
    """Write a dataset's samples, at its own size, into an existing folder; the card comes last."""
    split = splits.samples_to_store()
    for name in ARRAYS:
        array = getattr(split, name)
        if array is not None:
            np.save(folder / f"{name}.npy", np.ascontiguousarray(array))
    card = {
        "dataset": splits.name,
        "classes": splits.classes,
        "fingerprint": splits.samples_fingerprint,
        "source": splits.source,
        "info": dataclasses.asdict(splits.info),
        "sha256": digests(folder),
    }
    write_json(folder / CARD, card)


def copy_samples(source: Path, folder: Path) -> None:
    """Copy the files of a folder of samples, and nothing else that may lie there, into an existing folder."""
    for name in (*(f"{array}.npy" for array in ARRAYS), CARD):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every array in a folder of samples by file name."""
    files = [folder / f"{name}.npy" for name in ARRAYS]
    return {file.name: digest(file) for file in files if file.is_file()}


def read_samples(folder: Path) -> Samples:
    """Map a folder of samples; their content is not read, see `check_samples`.

    Raises:
        ValueError: If a file is missing, cut short, or is not what its card says.
    """
    card = read_json(folder / CARD)
    try:
        files = {name: folder / f"{name}.npy" for name in ARRAYS}
        arrays = {
            name: np.load(file, mmap_mode="r") for name, file in files.items() if file.exists() or name != "masks"
        }
        _check_card(card)
        _check_arrays(arrays, len(card["classes"]))
        split = Split(**arrays)
        about = (tuple(card["classes"]), card["fingerprint"], folder, card["info"], card.get("source", ""))
        found = Samples(card["dataset"], split, *about)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"samples in {folder} are damaged ({error}); delete the folder and train once more") from None
    return found


def _check_card(card: dict[str, Any]) -> None:
    for name, kind in (("dataset", str), ("fingerprint", str), ("info", dict), ("classes", list)):
        if not isinstance(card[name], kind):
            raise ValueError(f"{name} must be {kind.__name__}, got {type(card[name]).__name__}")
    if not all(isinstance(name, str) for name in [*card["classes"], card.get("source", "")]):
        raise ValueError("classes must be a list of names, and source a digest")


def _check_arrays(arrays: dict[str, np.ndarray], num_classes: int) -> None:
    images, labels = arrays["images"], arrays["labels"]
    shape = images.shape
    if len(shape) != 4 or images.dtype != np.uint8 or shape[3] not in (1, 3):
        raise ValueError(f"images must be uint8 [n h w c], got {images.dtype} {shape}")
    expected = {"labels": (np.int64, shape[:1]), "ids": (np.int64, shape[:1]), "masks": (np.bool_, shape[:3])}
    for name, (dtype, fit) in expected.items():
        if name in arrays and (arrays[name].dtype != dtype or arrays[name].shape != fit):
            array = arrays[name]
            raise ValueError(f"{name} must be {np.dtype(dtype)} {list(fit)}, got {array.dtype} {list(array.shape)}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(f"labels must be from 0 to {num_classes - 1}")


def check_samples(folder: Path) -> None:
    """Read every byte of a folder of samples and compare it with the card's digests.

    Raises:
        ValueError: If something is not what was written; samples written before there were digests pass.
    """
    read_samples(folder)
    known, found = read_json(folder / CARD).get("sha256") or {}, digests(folder)
    changed = [name for name in {**known, **found} if known and known.get(name) != found.get(name)]
    if changed:
        raise ValueError(f"{folder}: {', '.join(changed)} changed since the card was written")
