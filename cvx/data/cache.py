"""Cache decoded datasets: each part becomes uint8 files that processes map and share."""

import errno
import hashlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Int64, UInt8
from rich.console import Console
from rich.progress import Progress

from cvx.data.dataset_types import Part, Source, Split
from cvx.data.decoding import (
    DIGEST,
    NUM_THREADS,
    Digests,
    are_whole,
    decode,
    digest_of,
    read_all_digests,
    read_image_of,
    read_masks,
)
from cvx.data.make_splits import stratified_order
from cvx.data.npy_writer import NpyAppender
from cvx.files import read_json, write_json

LAYOUT = 1
"""Part of every key: raised when the order or the files change, so that older caches are left alone."""
CHUNK = 64
"""Images that are decoded before they are written."""
NUM_LOOKED_AT = 64
"""Images of a part that are compared with their moments when a cache is opened: all would be as many bytes to read."""


@dataclass(frozen=True, eq=False)
class CachedPart:
    """One part in stratified order, memory-mapped, with the sums that any slice's mean and std follow from."""

    split: Split
    moments: Int64[np.ndarray, "n 2 c"]
    """Per image and channel: the sum of the pixel values and the sum of their squares."""


def fingerprint_of(source: Source, image_size: int) -> str:
    """Return 16 hex digits that change with the source, the image size or the cache's layout."""
    return hashlib.sha256(f"{LAYOUT} {source.fingerprint} {image_size}".encode()).hexdigest()[:16]


def materialize(source: Source, root: Path, slug: str, image_size: int) -> dict[str, CachedPart]:
    """Return the parts of a source as memory maps, written now if no process has done so before.

    Images are appended in stratified order as they are decoded, 64 at a time: beyond what the source itself holds, the
    peak is below 32 MB for images of 64 pixels, however many. The folder gets its name when it is complete. One process
    writes while others wait; its lock dies with it. What a killed or interrupted process has written for longer than
    `SAVE_EVERY_S` is not decoded again.

    Raises:
        ValueError: If an image cannot be decoded or has other channels than the first; the message names it.
        OSError: If the cache cannot be written; nothing half-written stays.
    """
    folder = _folder(source, root, slug, image_size)
    if (parts := _open(folder, source, image_size)) is not None:
        return parts
    with _explained_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            if (parts := _open(folder, source, image_size)) is None:
                _write(folder, source, image_size)
                parts = _open(folder, source, image_size)
    if parts is None:
        raise OSError(f"the array cache {folder} cannot be read back; delete it and try again")
    return parts


def _folder(source: Source, root: Path, slug: str, image_size: int) -> Path:
    return root / "cache" / f"{slug}-{image_size}-{fingerprint_of(source, image_size)[:12]}"


def content_digest(source: Source, root: Path, slug: str, image_size: int) -> str:
    """Return 16 hex digits of what a source holds, which tell datasets apart wherever they lie.

    It is taken of the class names (in NFC), the labels and the decoded pixels at their own size, in the source's own
    order, because images are paired by their place in it; so it depends neither on the size that was asked for, nor
    on files' names, times and formats, nor on the cache's layout. The cache's card keeps it, as the pixels pass by when
    a cache is written; one that was written before there were digests is read once more from its source.
    """
    if source.digest:
        return source.digest
    path = _folder(source, root, slug, image_size) / "card.json"
    card = read_json(path)
    if not isinstance(card.get("source"), str):
        print(f"reading the images of {path.parent.name} once more, for their digest", file=sys.stderr, flush=True)
        digests = {name: read_all_digests(part, name) for name, part in source.parts.items()}
        card["source"] = digest_of(source, digests)
        with suppress(OSError):  # a cache that cannot be written is read again the next time
            write_json(path, {name: value for name, value in card.items() if name != "format"})
    return str(card["source"])


def _open(folder: Path, source: Source, image_size: int) -> dict[str, CachedPart] | None:
    """Map a finished cache; None if there is none, or if a file of it is not what was written, as far as is looked."""
    try:
        card, names = read_json(folder / "card.json"), list(source.parts)
        if card["classes"] != list(source.classes) or list(card["num_images"]) != names:
            raise ValueError(f"the card of {folder} is about something else")
        digests = card.get("moments_sha256", {})  # older caches have none
        if any(digests.get(name, one) != one for name in names if (one := _digest(folder / name))):
            raise ValueError(f"moments in {folder} changed")
        return {name: _open_part(folder / name, part, image_size) for name, part in source.parts.items()}
    except Exception:  # noqa: BLE001 - damage has no fixed kind of error, and what is damaged is written anew
        return None


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "moments.npy").read_bytes()).hexdigest()


def _open_part(folder: Path, part: Part, image_size: int) -> CachedPart:
    """Map a part, and compare it with its source and itself: all but most of the pixels and the masks.

    Raises:
        ValueError: If something is not what was written.
    """
    arrays = _map(folder, part, image_size)
    ids, moments, num = arrays["ids"], arrays.pop("moments"), len(part.labels)
    if not np.array_equal(np.sort(ids), np.arange(num)) or not np.array_equal(arrays["labels"], part.labels[ids]):
        raise ValueError(f"{folder} has other labels than its source")
    if not _agree(arrays["images"], moments, np.linspace(0, num - 1, NUM_LOOKED_AT).astype(int)):
        raise ValueError(f"images in {folder} changed")
    return CachedPart(Split(**arrays), moments)


def _map(folder: Path, part: Part, image_size: int) -> dict[str, np.ndarray]:
    """Map a part's arrays; a ValueError says that one has another dtype or shape than was written."""
    channels = np.load(folder / "images.npy", mmap_mode="r").shape[3]
    kinds = _kinds(part, (image_size, image_size, channels))
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in kinds}
    if any((arrays[name].dtype, arrays[name].shape) != kind for name, kind in kinds.items()):
        raise ValueError(f"{folder} holds other arrays than its source")
    return arrays


def _kinds(part: Part, shape: tuple[int, int, int]) -> dict[str, tuple[type, tuple[int, ...]]]:
    """Return dtype and shape of every array of a part whose images have this shape."""
    num = len(part.labels)
    kinds: dict[str, tuple[type, tuple[int, ...]]] = {
        "images": (np.uint8, (num, *shape)),
        "moments": (np.int64, (num, 2, shape[2])),
        "labels": (np.int64, (num,)),
        "ids": (np.int64, (num,)),
    }
    if part.masks is not None:
        kinds["masks"] = (np.bool_, (num, *shape[:2]))
    return kinds


def _agree(images: np.ndarray, moments: np.ndarray, rows: Int64[np.ndarray, "n"]) -> bool:
    return np.array_equal(_moments(images[rows]), moments[rows])


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"another process is preparing {folder}; waiting for it", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _explained_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)) + (f" ({error.filename})" if error.filename else "")
        advice = "make room or choose another data root (--data=DIR or CVX_DATA)"
        raise OSError(error.errno or errno.EIO, f"cannot write the array cache {folder}: {reason}; {advice}") from error


def _write(folder: Path, source: Source, image_size: int) -> None:
    """Write all parts under a temporary name; only the holder of the lock is here, so what lies there is unfinished."""
    building = folder.parent / f".{folder.name}.building"
    channels = read_image_of(source.parts["train"].images, 0, "train").shape[2]
    counts = {name: len(part.labels) for name, part in source.parts.items()}
    try:
        if not _is_plain(building):
            _remove(building)
        building.mkdir(exist_ok=True)
        _require_room(building, source, image_size, channels)
        with _bar(f"preparing {folder.name}", sum(counts.values())) as advance:
            for name, part in source.parts.items():
                _write_part(building / name, part, (image_size, image_size, channels), advance)
        for mark in building.glob("*/saved.json"):
            mark.unlink()
        digests = {name: _digest(building / name) for name in counts}
        card = {"classes": source.classes, "num_images": counts, "moments_sha256": digests}
        card["source"] = digest_of(source, {name: _take_digests(building / name) for name in counts})
        write_json(building / "card.json", card)
        _remove(folder)
        building.rename(folder)
    except Exception:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _take_digests(folder: Path) -> Digests:
    """Return the images' digests in the source's own order; nothing else needs their file."""
    stored, ids = np.load(folder / "digests.npy"), np.load(folder / "ids.npy")
    (folder / "digests.npy").unlink()
    ordered = np.empty_like(stored)
    ordered[ids] = stored
    return ordered


def _require_room(folder: Path, source: Source, image_size: int, channels: int) -> None:
    needed = -sum(file.stat().st_size for file in folder.rglob("*.npy"))
    for part in source.parts.values():
        needed += len(part.labels) * image_size**2 * (channels + (part.masks is not None))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{_size(needed)} are needed and {_size(free)} are free")


def _is_plain(building: Path) -> bool:
    """Say whether a leftover is made of folders of files only: through a link, something else would be written."""
    if building.is_symlink() or not building.is_dir():
        return False
    return all(not path.is_symlink() and path.is_file() == bool(path.suffix) for path in building.rglob("*"))


def _remove(path: Path) -> None:
    """Remove whatever lies in a cache's place; of a link the link only."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _write_part(folder: Path, part: Part, shape: tuple[int, int, int], advance: Callable[[int], None]) -> None:
    """Write a part; what a process left that was stopped is taken if its pixels have the moments that it wrote."""
    num_left = _append(folder, part, shape, advance)
    if num_left and not _is_sound(folder, part, shape[0], num_left):
        shutil.rmtree(folder)
        _append(folder, part, shape, lambda num: None)


def _is_sound(folder: Path, part: Part, image_size: int, num: int) -> bool:
    try:
        arrays = _map(folder, part, image_size)
        chunks = (np.arange(start, min(num, start + CHUNK)) for start in range(0, num, CHUNK))
        same = all(_agree(arrays["images"], arrays["moments"], rows) for rows in chunks)
        digests = np.load(folder / "digests.npy")
        return same and digests.shape == (len(part.labels), DIGEST) and are_whole(digests)
    except Exception:  # noqa: BLE001 - a damaged header can break numpy in any way
        return False


def _append(folder: Path, part: Part, shape: tuple[int, int, int], advance: Callable[[int], None]) -> int:
    """Decode what is not there yet; return how many images were."""
    folder.mkdir(exist_ok=True)
    order = stratified_order(part.labels)
    np.save(folder / "labels.npy", part.labels[order])
    np.save(folder / "ids.npy", order)
    arrays = {name: kind for name, kind in _kinds(part, shape).items() if name not in ("labels", "ids")}
    arrays["digests"] = (np.uint8, (len(order), DIGEST))
    with NpyAppender(folder, arrays) as growing, ThreadPoolExecutor(NUM_THREADS) as pool:
        advance(growing.num_saved)
        for start in range(growing.num_saved, len(order), CHUNK):
            rows = order[start : start + CHUNK]
            images, digests = decode(part.images, rows, shape, folder.name, pool)
            chunk = {"images": images, "moments": _moments(images), "digests": digests}
            if part.masks is not None:
                chunk["masks"] = read_masks(part.masks, rows, shape[0])
            growing.append(**chunk)
            advance(len(images))
    return growing.num_saved


def _moments(images: UInt8[np.ndarray, "n h w c"]) -> Int64[np.ndarray, "n 2 c"]:
    pixels = images.reshape(len(images), -1, images.shape[3]).astype(np.uint32)
    return np.stack([pixels.sum(1, dtype=np.int64), (pixels * pixels).sum(1, dtype=np.int64)], axis=1)


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that hears how many images are done; what takes longer than a second is shown on stderr."""
    console = Console(file=sys.stderr)
    progress = Progress(console=console, transient=True)
    task = progress.add_task(title, total=total)
    begun, shown = time.monotonic(), False

    def advance(num: int) -> None:
        nonlocal shown
        progress.advance(task, num)
        if shown or progress.finished or time.monotonic() - begun < 1:
            return
        shown = True
        if console.is_terminal:
            progress.start()
        else:
            print(f"{title}: {total:,} images", file=sys.stderr, flush=True)

    try:
        yield advance
    finally:
        if progress.live.is_started:
            progress.stop()
