"""Decode and fit the images of a source, and digest each, so that datasets can be told apart."""

import hashlib
import json
import os
import unicodedata
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from cvx.data.dataset_types import Lazy, Part, Source, Split
from cvx.data.transforms import fit_image, fit_masks

NUM_THREADS = min(8, os.cpu_count() or 1)
DIGEST = 16
"""Bytes of one image's digest, the last CHECK of which are a checksum of the others."""
CHECK = 4

Digests = UInt8[np.ndarray, "n 16"]


def read_all_digests(part: Part, name: str) -> Digests:
    """Decode every image of a part for its digest alone."""
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        found = pool.map(lambda row: _image_digest(read_image_of(part.images, row, name)), range(len(part.labels)))
        return np.frombuffer(b"".join(found), np.uint8).reshape(-1, DIGEST)


def digest_of(source: Source, digests: Mapping[str, Digests]) -> str:
    """Sum up what a source holds in 16 hex digits; the digests of its images are in the source's own order."""
    names = [unicodedata.normalize("NFC", name) for name in source.classes]
    digest = hashlib.sha256(json.dumps(names).encode())
    for name in sorted(source.parts):
        digest.update(name.encode())
        digest.update(source.parts[name].labels.astype("<i8").tobytes())
        digest.update(digests[name].tobytes())
    return digest.hexdigest()[:16]


def _image_digest(image: UInt8[np.ndarray, "h w c"]) -> bytes:
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return _checked(digest.digest()[: DIGEST - CHECK])


def _checked(digest: bytes) -> bytes:
    return digest + zlib.crc32(digest).to_bytes(CHECK, "little")


def are_whole(digests: Digests) -> bool:
    """Tell whether digests that were read back are those that were written."""
    return all(row == _checked(row[:-CHECK]) for row in map(bytes, digests))


def decode(
    images: Lazy[Any], rows: Int64[np.ndarray, "n"], shape: tuple[int, int, int], name: str, pool: ThreadPoolExecutor
) -> tuple[UInt8[np.ndarray, "n h w c"], Digests]:
    """Return images fitted to a shape, and the digest of each as it was."""

    def fitted(row: int) -> tuple[UInt8[np.ndarray, "s s c"], bytes]:
        image = read_image_of(images, row, name)
        if image.shape[2] != shape[2]:
            raise ValueError(f"image {row} of {name} has {image.shape[2]} channels, the first image has {shape[2]}")
        return fit_image(image, shape[0]), _image_digest(image)

    whole = isinstance(images, np.ndarray) and images.shape[1:] == shape
    pairs = [fitted(row) for row in rows.tolist()] if whole else list(pool.map(fitted, rows.tolist()))
    fitted_images, digests = zip(*pairs, strict=True)
    return np.stack(fitted_images), np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST)


def read_masks(masks: Lazy[Any], rows: Int64[np.ndarray, "n"], size: int) -> Bool[np.ndarray, "n s s"]:
    """Return some masks fitted to a size."""
    return fit_masks((masks[row] for row in rows.tolist()), size)


def read_rows(part: Part, name: str, rows: Int64[np.ndarray, "n"], size: int) -> Split:
    """Decode some images of a part, past the cache.

    Raises:
        ValueError: If one cannot be decoded; the message names it.
    """
    shape = (size, size, read_image_of(part.images, 0, name).shape[2])
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        images, _ = decode(part.images, rows, shape, name, pool)
    masks = None if part.masks is None else read_masks(part.masks, rows, size)
    return Split(images, part.labels[rows], rows, masks)


def read_image_of(images: Lazy[Any], row: int, name: str) -> UInt8[np.ndarray, "h w c"]:
    """Decode one image.

    Raises:
        ValueError: If it cannot be; the message says which of which part it is.
    """
    try:
        return images[row]
    except (OSError, ValueError) as error:
        raise ValueError(f"{error} (image {row} of {name})") from error
