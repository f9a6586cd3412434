"""Several models look at the same images: logits, maps, one scale across a row; what a class is drawn on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from unicodedata import normalize

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8

from cvx import cancellation
from cvx.attribution import Explainer, NotFiniteError, Scaled, rescale, to_heatmap
from cvx.attribution.options import TARGETS
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


class ImageExplainer:
    """Explains images of one stored model, as a store keeps them: made once for a request, whatever its batches.

    Where a model has another size or other channels, the images are fitted between image and network, so that the maps
    of all models lie on the images' grid. Of an image that is no square, the center square is looked at.

    Memory, threads, and weights that change meanwhile are as in `Explainer`, which it holds; whoever makes it closes
    it, best by `with`.
    """

    def __init__(
        self,
        reference: str,
        classifier: Classifier,
        card: Card,
        shape: tuple[int, int, int],
        num: int,
        target: str = "pred",
        label_classes: Sequence[str] | None = None,
        score: str = "logit",
        method: str = "gradient",
        precision: str = "fp32",
    ) -> None:
        """Take the request; nothing is computed yet.

        Args:
            shape: Height, width and channels of the images.
            num: Images of the whole request; a measure that explains each several times counts it as often.
            target: `pred`, `label`, or the name of one of the model's classes.
            label_classes: The class names that labels index; each is found among the model's own by its name.
                Without them labels index the model's classes.

        Raises:
            ValueError: If score, method or precision are unknown, or the target is no class of the model.
        """
        self._side, self._channels = min(shape[:2]), shape[2]
        self._reference, self._card = reference, card
        self._target, self._label_classes = target, label_classes
        self._class = class_index(card, target) if target not in TARGETS else None
        self.classifier = classifier.of(self._side, self._channels)
        """The model, ready to take the images."""
        self.explainer = Explainer(self.classifier, num, score, method, precision)

    def __enter__(self) -> "ImageExplainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.explainer.close()

    def __call__(
        self, images: UInt8[np.ndarray, "n h w c"], labels: Int64[np.ndarray, "n"] | None = None
    ) -> Explanation:
        """Explain one score of each image with respect to the images' own pixels.

        Args:
            labels: Ground truth; only the target `label` needs it.

        Raises:
            ValueError: If there is no image, or the ground truth is asked for and is missing or not among the model's
                classes.
            NotFiniteError: If a logit or a gradient is not finite; the message names the image.
        """
        if not len(images):
            raise ValueError("there is no image to look at")
        fixed = self._targets(len(images), labels)
        own = fit(images, self._side, self._channels)
        device = next(self.classifier.parameters()).device
        parts: list[tuple[np.ndarray, ...]] = []
        for rows in _chunks(len(own), max(self._side, self._card.image_size)):
            cancellation.check()
            inputs = to_inputs(torch.tensor(own[rows], device=device)).contiguous()
            targets = None if fixed is None else torch.tensor(fixed[rows], device=device)
            try:
                pair = self.explainer(inputs, targets)
            except NotFiniteError as error:
                raise NotFiniteError(rows.start + error.image, error.what) from None
            chosen = pair[0].argmax(dim=1) if targets is None else targets
            parts.append(tuple(array.cpu().numpy() for array in (*pair, chosen)))
        logits, attribution, explained = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        score, method = self.explainer.score, self.explainer.method
        return Explanation(self._reference, self._card, own, logits, explained, attribution, score, method)

    def _targets(self, num: int, labels: Int64[np.ndarray, "n"] | None) -> Int64[np.ndarray, "n"] | None:
        """Return the class that each image's score is taken of; None for the predicted one."""
        if self._target == "pred":
            return None
        if self._class is not None:
            return np.full(num, self._class, dtype=np.int64)
        if labels is None:
            raise ValueError(
                "the target `label` needs labels, and these images have none; choose `pred` or a class name"
            )
        return label_targets(self._card, labels, self._label_classes)


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
    """Explain images that are all at hand: one call of an `ImageExplainer`, whose arguments and errors it has.

    The model is folded for this call at most; nothing of it is kept afterwards.
    """
    request = (target, label_classes, score, method, precision)
    with ImageExplainer(reference, classifier, card, images.shape[1:], len(images), *request) as explain:
        return explain(images, labels)


PIXELS = 2**18
"""Pixels handled at once: 256 images of 32 x 32, 5 of 224 x 224."""


def _chunks(num: int, image_size: int) -> Iterator[slice]:
    size = max(1, min(256, PIXELS // image_size**2))
    return (slice(start, min(start + size, num)) for start in range(0, num, size))


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
