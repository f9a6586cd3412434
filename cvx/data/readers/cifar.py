"""CIFAR-10 and CIFAR-100: the official archives, packed or unpacked; else the Hub."""

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from cvx.data.dataset_types import Info, Part, Source
from cvx.data.image_file import Images
from cvx.data.readers import hub
from cvx.data.readers.hub_table import Columns

READER = "cifar-1"
_CITATION = (
    "Alex Krizhevsky. Learning Multiple Layers of Features from Tiny Images. "
    "Technical report, University of Toronto, 2009."
)
_LICENSE = "none stated by the authors"
_PAGE = "https://www.cs.toronto.edu/~kriz"
_LARGEST_MEMBER = 256 << 20
"""Bytes; the largest official member, the training file of CIFAR-100, has 155 million."""


@dataclass(frozen=True)
class _Layout:
    """Where one of the two datasets keeps what."""

    name: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    names: str
    columns: Columns
    info: Info

    @property
    def archive(self) -> str:
        return f"{self.name[:5]}-{self.name[5:]}-python.tar.gz"


_LAYOUTS = {
    10: _Layout(
        name="cifar10",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{i}" for i in range(1, 6)),
        test="test_batch",
        meta="batches.meta",
        labels="labels",
        names="label_names",
        columns=Columns("uoft-cs/cifar10", image="img", label="label"),
        info=Info("CIFAR-10", _LICENSE, _CITATION, flip=True),
    ),
    100: _Layout(
        name="cifar100",
        folder="cifar-100-python",
        train=("train",),
        test="test",
        meta="meta",
        labels="fine_labels",
        names="fine_label_names",
        columns=Columns("uoft-cs/cifar100", image="img", label="fine_label", renamed={"cra": "crab"}),
        info=Info("CIFAR-100 (fine labels)", _LICENSE, _CITATION, flip=True),
    ),
}


def source(root: Path, num_classes: int) -> Source:
    """Find CIFAR-10 or CIFAR-100 in the data root: the unpacked folder, the archive, or a copy from the Hub.

    The fingerprint is that of the content, so packed and unpacked copies on any machine have the same one.

    Raises:
        ValueError: If a file is damaged, not CIFAR's, or holds more than arrays, lists and text.
        FileNotFoundError: If the data is nowhere and cannot be fetched; names every way to get it.
    """
    layout = _LAYOUTS[num_classes]
    place, files = _find(root, layout)
    if not files:
        return hub.known(layout.name, root, layout.columns, layout.info, _ways(root, layout))
    batches = {name: _unpickle(files.pop(name), f"{name} in {place}") for name in list(files)}
    try:
        return _assemble(batches, layout, num_classes)
    except _UnfitError as error:
        raise ValueError(f"{place} does not hold {layout.info.title}: {error}; {_again(layout)}") from None


def _ways(root: Path, layout: _Layout) -> list[str]:
    return [
        f"put {layout.archive} (from {_PAGE}/{layout.archive}) into {root.absolute()}",
        f"put its unpacked folder {layout.folder} into {root.absolute()}",
    ]


def _again(layout: _Layout) -> str:
    return f"delete it and download {_PAGE}/{layout.archive} again"


def _find(root: Path, layout: _Layout) -> tuple[Path, dict[str, bytes]]:
    """Read the official files from where they are whole: the folder, else the archive."""
    wanted = [*layout.train, layout.test, layout.meta]
    folder, archive = root / layout.folder, root / layout.archive
    missing = [name for name in wanted if not (folder / name).is_file()]
    if not missing:
        return folder, {name: (folder / name).read_bytes() for name in wanted}
    if archive.is_file():
        return archive, _from_archive(archive, layout, wanted)
    if folder.is_dir():
        raise ValueError(f"{folder} lacks {', '.join(missing)}; unpack {layout.archive} again")
    return root, {}


def _from_archive(archive: Path, layout: _Layout, wanted: list[str]) -> dict[str, bytes]:
    """Read members in memory: nothing is unpacked, so no member's name can reach outside."""
    paths = {f"{layout.folder}/{name}": name for name in wanted}
    files = {}
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                name = paths.get(member.name.removeprefix("./"))
                if name and member.isfile() and member.size <= _LARGEST_MEMBER:
                    files[name] = _content(tar, member)
            _read_to_end(tar.fileobj)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).partition("\n")[0].rstrip(":")
        what = f"is damaged or was not downloaded to its end ({archive.stat().st_size:,} bytes; {reason})"
        raise ValueError(f"{archive} {what}; {_again(layout)}") from None
    if missing := [name for name in wanted if name not in files]:
        raise ValueError(f"{archive} lacks {', '.join(missing)}; {_again(layout)}")
    return files


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _read_to_end(file: Any) -> None:
    """Let gzip compare its checksum, which stands behind the last member."""
    while file.read(1 << 20):
        pass


class _Recorded:
    """What a pickled numpy object says of itself, recorded and not obeyed: no code of numpy sees it."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 writes bytes in protocol 2."""
    return text.encode("latin1")


_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _Recorded,
    ("numpy._core.multiarray", "_reconstruct"): _Recorded,
    ("numpy", "ndarray"): _Recorded,
    ("numpy", "dtype"): _Recorded,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """Reads numbers, text, lists, dicts and recorded arrays; refuses the rest before it is imported."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return the stand-in for a numpy object."""
        if (module_name, global_name) not in _ADMITTED:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}, but only arrays, lists and text are admitted"
            )
        return _ADMITTED[module_name, global_name]


_NO_PICKLE = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    AttributeError,
    TypeError,
    ValueError,
    ArithmeticError,
    MemoryError,
)


def _unpickle(content: bytes, name: str) -> dict[str, Any]:
    try:
        batch = _Unpickler(content).load()
        return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in batch.items()}
    except _NO_PICKLE as error:
        raise ValueError(f"{name} is damaged or not CIFAR's: {error or type(error).__name__}") from None


class _UnfitError(Exception):
    """The files are whole but do not say what CIFAR's say."""


def _assemble(batches: Mapping[str, dict[str, Any]], layout: _Layout, num_classes: int) -> Source:
    names = batches[layout.meta].get(layout.names)
    if not isinstance(names, list) or len(names) != num_classes:
        raise _UnfitError(f"{layout.meta} has no list of {num_classes} {layout.names}")
    classes = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)
    train = _part([batches[name] for name in layout.train], layout, num_classes)
    test = _part([batches[layout.test]], layout, num_classes)
    digest = hashlib.sha256(f"{READER} {classes}".encode())
    for pixels, labels in (train, test):
        digest.update(labels.tobytes())
        digest.update(pixels.data)
    parts = {"train": _as_part(*train), "test": _as_part(*test)}
    return Source(parts, classes, digest.hexdigest(), 32, layout.info)


def _part(
    batches: list[dict[str, Any]], layout: _Layout, num_classes: int
) -> tuple[UInt8[np.ndarray, "n 3072"], Int64[np.ndarray, "n"]]:
    pixels = [_pixels(batch.get("data")) for batch in batches]
    labels = [_labels(batch.get(layout.labels), num_classes) for batch in batches]
    for rows, numbers in zip(pixels, labels, strict=True):
        if len(rows) != len(numbers):
            raise _UnfitError(f"{len(rows)} images, but {len(numbers)} {layout.labels}")
    return np.concatenate(pixels), np.concatenate(labels)


def _pixels(array: Any) -> UInt8[np.ndarray, "n 3072"]:
    """Make an array of what a pickled one recorded: (version, shape, dtype, Fortran order, bytes)."""
    match array:
        case _Recorded(state=(_, (int(num), 3072), _Recorded(arguments=(b"u1" | "u1", *_)), False | 0, bytes(raw))):
            if len(raw) == num * 3072:
                return np.frombuffer(raw, np.uint8).reshape(num, 3072)
    raise _UnfitError("'data' is not an array of 3,072 bytes an image")


def _labels(numbers: Any, num_classes: int) -> Int64[np.ndarray, "n"]:
    if isinstance(numbers, list) and all(isinstance(n, int) and 0 <= n < num_classes for n in numbers):
        return np.array(numbers, dtype=np.int64)
    raise _UnfitError(f"its labels are not numbers from 0 to {num_classes - 1}")


def _as_part(pixels: UInt8[np.ndarray, "n 3072"], labels: Int64[np.ndarray, "n"]) -> Part:
    planes = pixels.reshape(-1, 3, 32, 32)
    return Part(Images(len(planes), lambda index: np.ascontiguousarray(planes[index].transpose(1, 2, 0))), labels)
