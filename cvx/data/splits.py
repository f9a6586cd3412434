"""What a dataset is before and after it becomes arrays, the order it is kept in, and how images are fitted."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from cvx.data.stratify import stratified_order

NUM_FILM = 32
"""Samples whose maps are kept every epoch."""
NUM_GALLERY = 1000
"""Samples that figures and the demo choose from."""
NUM_POINTS = 5000
"""Samples whose logits are embedded: all of them."""

T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Lazy(Protocol[T_co]):
    """Items by index: an array, a list, or a reader that decodes when it is asked, from several threads."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> T_co: ...


@dataclass(frozen=True)
class Info:
    """What a dataset knows about itself."""

    title: str
    licence: str
    citation: str
    flip: bool
    """A horizontal flip keeps the class."""
    note: str = ""
    """What a reader of its numbers must know."""


@dataclass(frozen=True, eq=False)
class Part:
    """One split of a source before it becomes arrays."""

    images: Lazy[Any]
    """Each uint8 [h w c] with 1 or 3 channels, the same number for all; sizes may differ."""
    labels: Int64[np.ndarray, "n"]
    masks: Lazy[Any] | None = None
    """Each bool [h w]: the pixels that decide the class."""


@dataclass(frozen=True, eq=False)
class Source:
    """A dataset as its reader found it."""

    parts: dict[str, Part]
    """`train`, and `val` and `test` where the dataset has them."""
    classes: tuple[str, ...]
    fingerprint: str
    """Hex; another when the source's files, its reader or its generator are."""
    image_size: int
    """Side of the images; 0 if they differ or are not square."""
    info: Info
    digest: str = ""
    """Of the content, where the reader knows it without a look at the pixels; else it is that of the pixels."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels; arrays may be read-only memory maps, and slices are views."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int64[np.ndarray, "n"]
    ids: Int64[np.ndarray, "n"]
    """Index of each image in the source's own order of the part it came from."""
    masks: Bool[np.ndarray, "n h w"] | None = None
    """The pixels that decide the class, where they are known."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice) -> "Split":
        masks = None if self.masks is None else self.masks[rows]
        return Split(self.images[rows], self.labels[rows], self.ids[rows], masks)

    def head(self, num: int) -> "Split":
        """Return the first `num` images, without a copy; stratified, because the order is."""
        return self[:num]


@dataclass(frozen=True)
class OwnSize:
    """The samples at the dataset's own size, where the splits have another."""

    fingerprint: str
    read: Callable[[], Split]
    """Decodes them."""


@dataclass(frozen=True, eq=False)
class Splits:
    """A dataset ready for training: three splits, each in one seeded stratified order."""

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, of the train split, in [0, 1]."""
    std: tuple[float, ...]
    fingerprint: str
    """Of the source and the image size."""
    info: Info
    source: str = ""
    """Digest of the dataset's content: the same at every image size, in every place and on every machine."""
    own_size: OwnSize | None = None

    @property
    def num_classes(self) -> int:
        """Count the classes."""
        return len(self.classes)

    @property
    def image_size(self) -> int:
        """Return the side of the square images in pixels."""
        return self.train.images.shape[1]

    @property
    def in_chans(self) -> int:
        """Count the channels: 1 or 3."""
        return self.train.images.shape[3]

    @property
    def samples(self) -> Split:
        """Return the test images that are shown everywhere: its head is the film, then the gallery."""
        return self.test.head(NUM_POINTS)

    @property
    def samples_fingerprint(self) -> str:
        """Return the fingerprint of the samples as they are stored: at the dataset's own size, where it has one."""
        return self.own_size.fingerprint if self.own_size else self.fingerprint

    def samples_to_store(self) -> Split:
        """Return the samples at the dataset's own size; where its images differ in size, at that of the splits."""
        return self.own_size.read() if self.own_size else self.samples


def _help_val(labels: Int64[np.ndarray, "n"], slices: dict[str, slice], shares: dict[str, float]) -> str:
    start = slices.get("test", slice(0)).stop
    between = _val_fractions(labels, start) if "val" in shares else ""
    return "add images or remove the class" + (f", or set {between} (it is {shares['val']:g})" if between else "")


def _help_test(totals: Int64[np.ndarray, "k"], shares: dict[str, float]) -> str:
    """Say what fills a test split, which is a fixed share: more images of each class, or a test part of one's own."""
    # A prefix of m of n images has at least floor(c m / n) of a class of c, and m is rounded.
    fewest = math.ceil(1 / (shares["test"] - 0.5 / max(totals.sum(), len(totals) / shares["test"])))
    more = f"test takes {shares['test']:.0%} of each class, so give each at least {fewest} images or remove it"
    if totals.min() < len(shares) + 1:
        return more
    left = np.repeat(np.arange(len(totals)), totals - 1)
    between = _val_fractions(left[stratified_order(left)], 0) if "val" in shares else ""
    set_it = f", and set {between} (it is {shares['val']:g})" if between else ""
    return f"{more}, or bring a test split of your own (in a folder, test beside train), one image of each{set_it}"


def _val_fractions(labels: Int64[np.ndarray, "n"], start: int) -> str:
    """Say which fractions of the rows from `start` give val and train an image of each class; "" if none does."""
    rest = labels[start:]
    found, first = np.unique(rest, return_index=True)
    if len(found) < len(np.unique(labels)):
        return ""
    last = len(rest) - 1 - np.unique(rest[::-1], return_index=True)[1]
    low = math.ceil(100 * (first.max() + 1) / len(rest))
    high = min(math.floor(100 * last.min() / len(rest)), 90)
    return f"val_fraction between {low / 100:g} and {high / 100:g}" if low <= high else ""
