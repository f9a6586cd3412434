"""The fixed test images that travel with models: a folder of arrays and a card."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from cvx.checkpoint import digest
from cvx.data.splits import Split, Splits
from cvx.files import read_json, write_json

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


def write_samples(folder: Path, splits: Splits) -> None:
    """Write a dataset's samples into an existing folder; the card comes last."""
    for name in ARRAYS:
        array = getattr(splits.samples, name)
        if array is not None:
            np.save(folder / f"{name}.npy", np.ascontiguousarray(array))
    card = {
        "dataset": splits.name,
        "classes": splits.classes,
        "fingerprint": splits.fingerprint,
        "info": dataclasses.asdict(splits.info),
        "sha256": digests(folder),
    }
    write_json(folder / CARD, card)


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
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS[:3]}
        masks = folder / "masks.npy"
        split = Split(**arrays, masks=np.load(masks, mmap_mode="r") if masks.exists() else None)
        found = Samples(card["dataset"], split, tuple(card["classes"]), card["fingerprint"], folder, card["info"])
        _check(found)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"samples in {folder} are damaged ({error}); delete the folder and train once more") from None
    return found


def _check(samples: Samples) -> None:
    split, shape = samples.split, samples.split.images.shape
    for name, value in (("dataset", samples.dataset), ("fingerprint", samples.fingerprint)):
        if not isinstance(value, str):
            raise ValueError(f"{name} must be text, got {type(value).__name__}")
    if not isinstance(samples.info, dict) or not all(isinstance(name, str) for name in samples.classes):
        raise ValueError("the card needs an object of facts and a list of class names")
    if len(shape) != 4 or split.images.dtype != np.uint8 or shape[3] not in (1, 3):
        raise ValueError(f"images must be uint8 [n h w c], got {split.images.dtype} {shape}")
    for name, array in (("labels", split.labels), ("ids", split.ids)):
        if array.shape != shape[:1] or array.dtype != np.int64:
            raise ValueError(f"{name} must be int64 [{shape[0]}], got {array.dtype} {array.shape}")
    if split.masks is not None and (split.masks.shape != shape[:3] or split.masks.dtype != np.bool_):
        raise ValueError(f"masks must be bool {list(shape[:3])}, got {split.masks.dtype} {split.masks.shape}")
    if len(split) and not 0 <= int(split.labels.min()) <= int(split.labels.max()) < len(samples.classes):
        raise ValueError(f"labels must be from 0 to {len(samples.classes) - 1}")


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
