"""Summarize a model's maps over the images of one class: mean map, center bias, mass on the mask."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

from cvx.attribution import to_heatmap
from cvx.data.dataset_types import Split
from cvx.data.transforms import fit_masks
from cvx.maps.explanation import Explanation, explain_images, places
from cvx.metrics.complexity import center_bias
from cvx.models import Classifier
from cvx.store.checkpoint import Card


@dataclass(frozen=True, eq=False)
class ClassSummary:
    """What one model draws on for one class, over images of that class.

    The mean map assumes that the objects lie in roughly the same place of every image, centered and aligned, as
    in digits or Fashion-MNIST. Where they do not, it shows where they lie rather than which part of them counts.
    """

    reference: str
    class_name: str
    indices: Int64[np.ndarray, "e"]
    """The exemplars' rows in the samples: the first of the class in stored order, so not chosen by looks."""
    images: UInt8[np.ndarray, "e h w c"]
    maps: Float32[np.ndarray, "e h w"]
    """The exemplars' heatmaps, unscaled."""
    preds: tuple[str, ...]
    """The classes that the model assigns to the exemplars."""
    mean_map: Float32[np.ndarray, "h w"]
    """Mean of the maps but zero ones, each divided by its absolute sum, so that all images count alike."""
    center_bias: float
    """Mean of the maps' `center_bias`: 1 is none, < 1 central; nan where all are zero or of one pixel."""
    mass_on_mask: float | None
    """Mean share of a map's absolute mass on its image's mask; None without masks or with zero maps only."""
    mask_share: float | None
    """Mean share of the image under the mask: what a uniform map scores. None where `mass_on_mask` is."""
    num: int
    """Images of the class that were looked at."""
    num_zero: int
    """How many of them have a map that is zero everywhere."""
    accuracy: float
    """Share of them that the model assigns to the class."""
    score: str
    method: str
    reduction: str


def explain_class(
    reference: str,
    classifier: Classifier,
    card: Card,
    samples: Split,
    class_index: int,
    num: int = 100,
    num_exemplars: int = 8,
    reduction: str = "max",
    score: str = "logit",
    method: str = "gradient",
) -> ClassSummary:
    """Look at the first `num` samples of a class and sum up where the model's score of that class comes from.

    A class that the model does not have or no sample is of is a ValueError.
    """
    if not 0 <= class_index < len(card.classes):
        raise ValueError(f"class index must lie in 0…{len(card.classes) - 1}, got {class_index}")
    indices = np.flatnonzero(samples.labels == class_index)[:num].astype(np.int64)
    if not len(indices):
        raise ValueError(f"no sample is of class {card.classes[class_index]!r}")
    images, labels = samples.images[indices], samples.labels[indices]
    view = explain_images(reference, classifier, card, images, "label", labels, score=score, method=method)
    masks = None if samples.masks is None else samples.masks[indices]
    return summarize_class(view, indices, card.classes[class_index], masks, num_exemplars, reduction)


def summarize_class(
    view: Explanation,
    indices: Int64[np.ndarray, "n"],
    class_name: str,
    masks: Bool[np.ndarray, "n a b"] | None = None,
    num_exemplars: int = 8,
    reduction: str = "max",
) -> ClassSummary:
    """Sum up a look at images of one class, whose rows in the samples are `indices` (n >= 1)."""
    maps = to_heatmap(view.attribution, reduction)
    shares, alive = _shares(maps)
    mass, chance = None, None
    if masks is not None and alive.any():
        mass, chance = _on_mask(shares[alive], fit_masks(masks[alive], maps.shape[1]))
    few = slice(0, num_exemplars)
    return ClassSummary(
        reference=view.reference,
        class_name=class_name,
        indices=indices[few],
        images=view.images[few],
        maps=maps[few],
        preds=tuple(view.card.classes[pred] for pred in view.preds[few]),
        mean_map=shares[alive].mean(axis=0) if alive.any() else np.zeros_like(maps[0]),
        center_bias=float(center_bias(np.abs(shares[alive])).mean()) if alive.any() else float("nan"),
        mass_on_mask=mass,
        mask_share=chance,
        num=len(view),
        num_zero=int((~alive).sum()),
        accuracy=float((places([class_name], view.card.classes)[view.preds] == 0).mean()),
        score=view.score,
        method=view.method,
        reduction=reduction,
    )


def _shares(maps: Float32[np.ndarray, "n h w"]) -> tuple[Float32[np.ndarray, "n h w"], Bool[np.ndarray, "n"]]:
    """Divide each map by its absolute sum, and tell which are not zero everywhere; a zero map stays zero."""
    peaks = np.abs(maps).max(axis=(1, 2), keepdims=True)
    safe = np.divide(maps, peaks, out=np.zeros_like(maps), where=peaks > 0)  # no overflow, no underflow in the sum
    sums = np.abs(safe).sum(axis=(1, 2), keepdims=True)
    return np.divide(safe, sums, out=np.zeros_like(safe), where=sums > 0), peaks[:, 0, 0] > 0


def _on_mask(
    shares: Float32[np.ndarray, "n h w"], masks: Bool[np.ndarray, "n h w"]
) -> tuple[float | None, float | None]:
    """Average the mass on the mask and the mask's share of the image, without images whose mask is empty."""
    known = masks.any(axis=(1, 2))
    if not known.any():
        return None, None
    mass = (np.abs(shares[known]) * masks[known]).sum(axis=(1, 2))
    return float(mass.mean()), float(masks[known].mean())
