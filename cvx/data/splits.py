"""What a dataset is before and after it becomes arrays, the order it is kept in, and how images are fitted."""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from PIL import Image

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


def stratified_order(labels: Int64[np.ndarray, "n"], seed: int = 0) -> Int64[np.ndarray, "n"]:
    """Order a dataset so that every prefix is stratified.

    Each of the first m images of a class with share p lies in the window that keeps the class's count within 1 of
    p * m; the earliest deadline goes first, which one processor always meets (Baruah, Cohen, Plaxton and Varvel,
    1996, Proportionate progress). Ties and the order within a class are random.
    """
    random = np.random.default_rng(seed)
    rows = random.permutation(len(labels))
    by_class = rows[np.argsort(labels[rows], kind="stable")]
    counts = np.unique(labels, return_counts=True)[1].tolist()
    starts = np.cumsum([0, *counts])
    index, place = _proportionate_slots(counts, random)
    return by_class[starts[index] + place]


def _proportionate_slots(counts: list[int], random: np.random.Generator) -> Int64[np.ndarray, "2 n"]:
    """Return for every slot its class and how many of it came before; job j may run in slots (j n/c, (j + 1) n/c]."""
    total = sum(counts)
    slots = np.empty((2, total), np.int64)
    waiting = {0: list(range(len(counts)))}
    done = [0] * len(counts)
    ready: list[tuple[int, float, int]] = []
    for slot in range(total):
        for index in waiting.pop(slot, ()):
            deadline = -(-(done[index] + 1) * total // counts[index])
            heapq.heappush(ready, (deadline, random.random(), index))
        index = heapq.heappop(ready)[2]
        slots[:, slot] = index, done[index]
        done[index] += 1
        if done[index] < counts[index]:
            waiting.setdefault(max(done[index] * total // counts[index], slot + 1), []).append(index)
    return slots


def fit_image(image: UInt8[np.ndarray, "h w c"], size: int) -> UInt8[np.ndarray, "s s c"]:
    """Resize the short side to `size`, antialiased, and crop the center; an image that fits already is unchanged."""
    if image.shape[:2] == (size, size):
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    fitted = picture.resize((size, size), Image.Resampling.BICUBIC, box=_center_box(*image.shape[:2]))
    return np.asarray(fitted).reshape(size, size, image.shape[2])


def fit_mask(mask: Bool[np.ndarray, "h w"], size: int) -> Bool[np.ndarray, "s s"]:
    """Fit a mask as its image is fitted; a pixel belongs to it if at least half of it does."""
    if mask.shape == (size, size):
        return mask
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    box = _center_box(*mask.shape)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box)) >= 128


def _center_box(height: int, width: int) -> tuple[int, int, int, int]:
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def fit_channels(images: UInt8[np.ndarray, "*n c"], in_chans: int) -> UInt8[np.ndarray, "*n k"]:
    """Turn colour into luminance for 1 channel (ITU-R 601, as Pillow rounds it), or repeat gray for 3.

    Raises:
        ValueError: If neither turns these channels into those.
    """
    if images.shape[-1] == in_chans:
        return images
    if (images.shape[-1], in_chans) == (1, 3):
        return np.repeat(images, 3, axis=-1)
    if (images.shape[-1], in_chans) == (3, 1):
        weighted = images.astype(np.uint32) @ np.array([[19595], [38470], [7471]], dtype=np.uint32)
        return ((weighted + 0x8000) >> 16).astype(np.uint8)
    raise ValueError(f"cannot turn {images.shape[-1]} channels into {in_chans}; images and models have 1 or 3")


def check_source(source: Source, name: str) -> None:
    """Refuse a source that no model can be trained on.

    Raises:
        ValueError: If images or labels are missing or do not fit each other; the message names part and class.
    """
    num_classes = len(source.classes)
    if num_classes < 2:
        raise ValueError(f"{name!r} has {num_classes} class(es); a classifier needs at least 2")
    if "train" not in source.parts:
        raise ValueError(f"{name!r} has no train part; found: {', '.join(source.parts) or 'nothing'}")
    for part_name, part in source.parts.items():
        place = f"the {part_name} part of {name!r}"
        if not len(part.images) == len(part.labels) == len(part.labels if part.masks is None else part.masks):
            raise ValueError(f"{place} has {len(part.images)} images, but {len(part.labels)} labels, or other masks")
        if len(part.labels) == 0:
            raise ValueError(f"{place} holds no image; add some, or remove the part")
        low, high = part.labels.min(), part.labels.max()
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"{place} has labels {low}…{high}; allowed with {num_classes} classes: 0…{num_classes - 1}"
            )
    counts = np.bincount(source.parts["train"].labels, minlength=num_classes)
    if empty := [source.classes[index] for index in np.flatnonzero(counts == 0)]:
        names = ", ".join(map(repr, empty[:5])) + (", …" if len(empty) > 5 else "")
        raise ValueError(f"the train part of {name!r} has no image of {names}; add images or remove the class")


def carve(labels: Int64[np.ndarray, "n"], classes: tuple[str, ...], shares: dict[str, float]) -> dict[str, slice]:
    """Cut splits from the front of a train part in stratified order; what is left is `train`.

    Args:
        labels: In stratified order, so that every slice is stratified too.
        shares: Of what the splits before it left, the share of `test`, `val` or both.

    Raises:
        ValueError: If a split would be without an image of some class; names the class and what helps.
    """
    slices, start = {}, 0
    for name, share in shares.items():
        stop = start + round((len(labels) - start) * share)
        slices[name] = slice(start, stop)
        start = stop
    slices["train"] = slice(start, len(labels))
    totals = np.bincount(labels, minlength=len(classes))
    for name, rows in slices.items():
        missing = np.bincount(labels[rows], minlength=len(classes)) == 0
        if missing.any():
            index = int(np.where(missing, totals, len(labels) + 1).argmin())
            raise ValueError(
                f"class {classes[index]!r} has too few training images ({totals[index]}) to be in "
                f"{', '.join([*shares, 'train'])}: none is left for {name}; "
                + (_help_test(totals, shares) if name == "test" else _help_val(labels, slices, shares))
            )
    return slices


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
