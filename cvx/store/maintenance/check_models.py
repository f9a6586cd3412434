"""Check that stored models and samples are what their cards say."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from cvx.files import FORMAT, read_json
from cvx.store import Store, checkpoint
from cvx.store.maintenance.finding import (
    Finding,
    check_read,
    entries,
    is_held,
    note,
    one_line,
    problem,
    unexpected_files,
)
from cvx.store.samples import check_samples
from cvx.store.store import NAME

_VERSION = re.compile(r"v\d+")


def models(store: Store) -> Iterator[Finding]:
    """Check every version of every model, and the aliases."""
    root = store.models_root
    yield from unexpected_files(root, lambda path: path.is_dir() and bool(NAME.fullmatch(path.name)), store.root)
    for folder in entries(root):
        if folder.is_dir() and NAME.fullmatch(folder.name):
            yield from unexpected_files(folder, _in_collection, store.root)
            if is_held(folder / ".lock"):
                yield note(folder, "is being written to by a living process", "nothing; ask again when it is through")
            for entry in store.versions(folder.name):
                yield from _version(store, folder.name, entry.folder)
            yield from _aliases(store, folder)


def _in_collection(path: Path) -> bool:
    return path.name in ("aliases.json", ".lock") or bool(_VERSION.fullmatch(path.name))


def _version(store: Store, name: str, folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        yield problem(folder, "is no folder", "delete it")
        return
    yield from unexpected_files(folder, lambda path: path.name in (checkpoint.CARD, checkpoint.WEIGHTS), store.root)
    try:
        _, card = checkpoint.load(folder)
    except Exception as error:  # noqa: BLE001 - a broken model may break in any way, and the next one is to be checked
        yield problem(folder, one_line(error), "restore it from a copy or from W&B (`pull`), or delete the folder")
        return
    if card.name != name:
        yield problem(folder, f"its card belongs to {card.name!r}", "put the folder where its name says, or delete it")
    if card.samples:
        yield from check_read(
            folder,
            lambda: store.samples_of(card),
            "train once on the dataset, or pull them",
            "the samples that its maps are drawn for cannot be had",
        )


def _aliases(store: Store, folder: Path) -> Iterator[Finding]:
    path, versions = folder / "aliases.json", store.versions(folder.name)
    whole = [entry.version for entry in versions if entry.card]
    if not versions:
        return
    remedy = json.dumps({"format": FORMAT, "aliases": {"latest": max(whole, default=0)}})
    advice = f"the next stored version sets it right; or write {remedy} into it"
    try:
        pairs = dict(read_json(path)["aliases"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield problem(path, f"the names best and latest are lost: {one_line(error)}", advice)
        return
    for alias, version in pairs.items():
        if version not in whole:
            yield problem(path, f"{alias!r} points at {version!r}, which is no whole version", advice)


def samples(store: Store) -> Iterator[Finding]:
    """Check every version of every dataset's samples."""
    root = store.samples_root
    yield from unexpected_files(root, lambda path: path.is_dir() and bool(NAME.fullmatch(path.name)), store.root)
    for folder in entries(root):
        yield from unexpected_files(
            folder, lambda path: path.name == ".lock" or bool(_VERSION.fullmatch(path.name)), store.root
        )
        for version in entries(folder):
            if _VERSION.fullmatch(version.name):
                yield from unexpected_files(version, lambda path: path.name in _SAMPLES, store.root)
                yield from check_read(version, lambda version=version: check_samples(version), _AGAIN)  # type: ignore[misc]


_SAMPLES = ("card.json", "images.npy", "labels.npy", "ids.npy", "masks.npy")
_AGAIN = "delete the folder and train once more on the dataset, or pull it"
