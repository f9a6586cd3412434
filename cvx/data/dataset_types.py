"""The types of a dataset: `Source` as a reader finds it, `Splits` of arrays as training takes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64, UInt8

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
