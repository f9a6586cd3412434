"""Order images so that every prefix is stratified, and cut val and test out of train."""

import heapq
import math

import numpy as np
from jaxtyping import Int64

from cvx.data.dataset_types import Source


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


def split_train(labels: Int64[np.ndarray, "n"], classes: tuple[str, ...], shares: dict[str, float]) -> dict[str, slice]:
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
