"""Looks and class views as figures, with all that a reader must know written on them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from cvx.attribution import rescale, to_heatmap
from cvx.attribution.options import METHOD_WORDS, REDUCTION_WORDS, SCORE_WORDS, unit
from cvx.maps.class_summary import ClassSummary
from cvx.maps.explanation import Explanation, top_classes
from cvx.plotting import labels, panels
from cvx.plotting.labels import CLIP, percent

ALIGNMENT = (
    "Exemplars are the first of the class in stored order, each map on its own scale, with the predicted"
    " class below. The mean map averages all of the images' maps, each divided by its sum, and is drawn in"
    " multiples of a map that is the same everywhere. It assumes that the objects lie in the same place of"
    " every image; where they do not, it shows where they lie. Center bias is the mean distance from the"
    " center over that of a uniform map."
)


def image_figure(
    view: Explanation, i: int, label: str, reduction: str = "max", where: str = "", opacity: float = 0.6
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw image i of a look: image, map and overlay, on this map's own scale.

    Args:
        label: The ground truth in words.
        where: Which image it is, for the small print.
    """
    scaled = rescale([to_heatmap(view.attribution[i : i + 1], reduction)[0]], mode="each", clip=CLIP)[0]
    share = percent(float(scaled.clipped))
    scale = (
        "The map is zero everywhere" if scaled.zero else f"This map's own scale; {share} of its pixels lie beyond it"
    )
    norm = labels.number(float(np.linalg.norm(view.attribution[i].astype(np.float64))))
    how = f"{METHOD_WORDS[view.method]}, {REDUCTION_WORDS[reduction]}"
    return panels.panel(
        view.images[i],
        scaled.values,
        title=_title(view, i, label),
        notes=[f"{how[0].upper()}{how[1:]}. {scale}. Norm of the attribution: {norm}. {where}"],
        limit=float(scaled.limit),
        unit=unit(view.score, view.method),
        signed=reduction == "signed",
        opacity=opacity,
    )


def _title(view: Explanation, i: int, label: str) -> list[str]:
    (pred, prob), target = top_classes(view, i, 1)[0], int(view.targets[i])
    name = view.card.classes[target]
    asked = f"{SCORE_WORDS[view.score]} of {name}"
    if name != pred:
        asked += f", {percent(float(view.probs[i, target]))}"
    return [
        f"{'✓' if pred == label else '✗'} label {label}",
        f"predicted {pred}, {percent(prob)}",
        f"{view.reference}: {asked}",
    ]


def class_page(
    views: Sequence[ClassSummary], dataset: str, targets: str = "label"
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw what one or many models see in a class, the mean maps on one scale.

    Args:
        targets: Whose score was explained: `label`, `pred` or a class name.
    """
    first = views[0]
    whose = {"label": "the class itself", "pred": "the predicted class"}.get(targets, targets)
    how = f"{METHOD_WORDS[first.method]}, {REDUCTION_WORDS[first.reduction]}"
    means = [view.mean_map * np.float32(view.mean_map.size) for view in views]
    limit = max(float(np.abs(mean).max()) for mean in means)
    return panels.class_figure(
        [_class_row(view, mean, limit) for view, mean in zip(views, means, strict=True)],
        title=[f"class {first.class_name}", f"{dataset}: {SCORE_WORDS[first.score]} of {whose}; {how}"],
        notes=[ALIGNMENT],
        unit="× uniform map",
        signed=first.reduction == "signed",
    )


def _class_row(view: ClassSummary, mean: Float32[np.ndarray, "h w"], limit: float) -> panels.ClassRow:
    images = "image" if view.num == 1 else "images"
    facts = [f"{view.num} {images}, {percent(view.accuracy)} of them recognized"]
    if np.isfinite(view.center_bias):
        facts.append(f"center bias {view.center_bias:.2f} (none: 1)")
    if view.num_zero:
        facts.append(f"maps that are zero everywhere, left out of the mean: {view.num_zero}")
    if view.mass_on_mask is not None and view.mask_share is not None:
        facts.append(f"mass on the mask {percent(view.mass_on_mask)} (chance: {percent(view.mask_share)})")
    scaled = rescale(list(view.maps), mode="each", clip=CLIP)
    return panels.ClassRow(
        title=view.reference,
        facts=facts,
        images=list(view.images),
        maps=[one.values for one in scaled],
        captions=[pred if pred == view.class_name else f"✗ {pred}" for pred in view.preds],
        mean_map=mean / np.float32(limit) if limit > 0 else mean,
        limit=limit,
    )
