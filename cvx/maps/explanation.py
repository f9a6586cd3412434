"""Several models look at the same images: logits, maps, one scale across a row; what a class is drawn on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unicodedata import normalize

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8

from cvx import cancellation
from cvx.attribution import NotFiniteError, Scaled, attribute, rescale, to_heatmap
from cvx.data.batches import to_inputs
from cvx.data.transforms import fit
from cvx.metrics.classification import softmax
from cvx.models import Classifier
from cvx.store.checkpoint import Card


@dataclass(frozen=True, eq=False)
class Explanation:
    """One model's look at n images."""

    reference: str
    card: Card
    images: UInt8[np.ndarray, "n h w c"]
    """The images, whose pixels the attribution is of; they are fitted between image and network."""
    logits: Float32[np.ndarray, "n k"]
    targets: Int64[np.ndarray, "n"]
    """The class whose score was explained, as an index into `card.classes`."""
    attribution: Float32[np.ndarray, "n c h w"]
    score: str
    method: str

    def __len__(self) -> int:
        return len(self.images)

    @property
    def probs(self) -> Float32[np.ndarray, "n k"]:
        """Return the softmax of the logits."""
        return softmax(self.logits)

    @property
    def preds(self) -> Int64[np.ndarray, "n"]:
        """Return the predicted classes."""
        return self.logits.argmax(axis=1).astype(np.int64)


def explain_images(
    reference: str,
    classifier: Classifier,
    card: Card,
    images: UInt8[np.ndarray, "n h w c"],
    target: str = "pred",
    labels: Int64[np.ndarray, "n"] | None = None,
    label_classes: Sequence[str] | None = None,
    score: str = "logit",
    method: str = "gradient",
    precision: str = "fp32",
) -> Explanation:
    """Show one model the images, and explain one score of each with respect to the images' own pixels.

    Where a model has another size or other channels, the images are fitted between image and network, so that the maps
    of all models lie on the images' grid. Of an image that is no square, the center square is looked at.

    Args:
        target: `pred`, `label`, or the name of one of the model's classes.
        labels: Ground truth; only the target `label` needs it.
        label_classes: The class names that `labels` index; each is found among the model's own by its name.
            Without them `labels` index the model's classes.

    Raises:
        ValueError: If there is no image, the target is no class of the model, or the ground truth is asked for
            and is missing or not among the model's classes.
        NotFiniteError: If a logit or a gradient is not finite; the message names the image.
    """
    if not len(images):
        raise ValueError("there is no image to look at")
    fixed = None if target == "pred" else _targets(card, target, len(images), labels, label_classes)
    side, channels = min(images.shape[1:3]), images.shape[3]
    own, classifier = fit(images, side, channels), classifier.of(side, channels)
    device = next(classifier.parameters()).device
    parts: list[tuple[np.ndarray, ...]] = []
    for rows in _chunks(len(own), max(side, card.image_size)):
        cancellation.check()
        inputs = to_inputs(torch.tensor(own[rows], device=device)).contiguous()
        targets = None if fixed is None else torch.tensor(fixed[rows], device=device)
        try:
            pair = attribute(classifier, inputs, targets, score=score, method=method, precision=precision)
        except NotFiniteError as error:
            raise NotFiniteError(rows.start + error.image, error.what) from None
        chosen = pair[0].argmax(dim=1) if targets is None else targets
        parts.append(tuple(array.cpu().numpy() for array in (*pair, chosen)))
    logits, attribution, explained = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Explanation(reference, card, own, logits, explained, attribution, score, method)


PIXELS = 2**18
"""Pixels handled at once: 256 images of 32 x 32, 5 of 224 x 224."""


def _chunks(num: int, image_size: int) -> Iterator[slice]:
    size = max(1, min(256, PIXELS // image_size**2))
    return (slice(start, min(start + size, num)) for start in range(0, num, size))


def _targets(
    card: Card,
    target: str,
    num: int,
    labels: Int64[np.ndarray, "n"] | None,
    label_classes: Sequence[str] | None,
) -> Int64[np.ndarray, "n"]:
    if target != "label":
        return np.full(num, class_index(card, target), dtype=np.int64)
    if labels is None:
        raise ValueError("the target `label` needs labels, and these images have none; choose `pred` or a class name")
    return label_targets(card, labels, label_classes)


def label_targets(
    card: Card, labels: Int64[np.ndarray, "n"], label_classes: Sequence[str] | None = None
) -> Int64[np.ndarray, "n"]:
    """Find each label among a model's classes by its class's name.

    Raises:
        ValueError: If the model has no such class; the message names it, and what can be asked all the same.
    """
    names = tuple(card.classes if label_classes is None else label_classes)
    asked = np.unique(labels)
    if len(asked) and not 0 <= asked[0] <= asked[-1] < len(names):
        raise ValueError(f"labels must lie in 0…{len(names) - 1}, got {asked[0]}…{asked[-1]}")
    found = places(card.classes, names)[labels]
    if unknown := [names[label] for label in asked if found[labels == label][0] < 0]:
        raise ValueError(
            f"{card.name} was trained on {card.dataset} and has no class {_listed(unknown)}, so these images'"
            f" labels cannot be its targets; choose `pred` (--target=pred, of attribute --targets=pred) or one of its"
            f" classes: {_listed(card.classes)}"
        )
    return found


def places(classes: Sequence[str], names: Sequence[str]) -> Int64[np.ndarray, "k"]:
    """Return where each name stands among the classes; -1 is nowhere. Composed and decomposed letters are one."""
    if tuple(classes) == tuple(names):  # two classes may share a name, their places differ
        return np.arange(len(names), dtype=np.int64)
    known = {normalize("NFC", name): i for i, name in reversed(list(enumerate(classes)))}
    return np.array([known.get(normalize("NFC", name), -1) for name in names], dtype=np.int64)


def class_index(card: Card, name: str) -> int:
    """Find a class of a model by its name; an unknown one is a ValueError that lists the known ones."""
    (index,) = places(card.classes, [name]).tolist()
    if index < 0:
        raise ValueError(f"unknown class {name!r}; {card.name} knows {_listed(card.classes)}")
    return int(index)


def _listed(names: Sequence[str], limit: int = 20) -> str:
    more = f", … ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + more


def top_classes(view: Explanation, i: int, k: int = 5) -> list[tuple[str, float]]:
    """Return the k most probable classes of image i with their probabilities, best first."""
    probs = view.probs[i]
    return [(view.card.classes[j], float(probs[j])) for j in np.argsort(-probs, kind="stable")[:k]]


def heatmaps(
    views: Sequence[Explanation],
    i: int,
    reduction: str = "max",
    mode: str = "shared",
    clip: float = 0.99,
    limit: float | None = None,
) -> list[Scaled]:
    """Reduce and scale the maps of image i, one per view; the mode `shared` puts the row on one scale.

    Maps of different sizes share a scale in the attribution's own unit, so a model with more pixels, whose
    score hangs less on any one of them, is drawn darker.
    """
    maps = [to_heatmap(view.attribution[i : i + 1], reduction)[0] for view in views]
    return rescale(maps, mode=mode, clip=clip, limit=limit)
