"""Draw every class's map of an image on one sheet, and save the maps."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from cvx.attribution import attribute_all, options, rescale, to_heatmap
from cvx.data.batches import to_inputs
from cvx.files import swap_folder, whole_folder, write_json
from cvx.maps.image_set import ImageSet, images_of
from cvx.maps.request import Question
from cvx.metrics.classification import softmax
from cvx.plotting import colors, labels, panels
from cvx.store import Store
from cvx.store.checkpoint import Card
from cvx.store.store import slug

PER_ROW = 10


def draw_every_class(store: Store, reference: str, question: Question, device: torch.device) -> tuple[Path, int]:
    """Draw the maps of all classes for the first samples into `attributions/<dataset>/<model>@v<k>-all/`.

    The folder holds `<i>.png`, with the classes from the most to the least probable and one scale for all, and
    `maps.npz` (ids, labels, logits, and signed attributions [n k c h w] in the order of the model's classes).

    Args:
        question: Its score and reduction; `per_class` is the number of images.

    Returns:
        The folder, and the number of sheets.

    Raises:
        ValueError: If the question asks for what only one class at a time can have, or as `attribute_all`.
    """
    if (question.split, question.method, question.precision) != ("samples", "gradient", "fp32"):
        raise ValueError("targets=all goes with split=samples, method=gradient and precision=fp32 only")
    entry = store.resolve(reference)
    classifier, card = entry.load()
    classifier.to(device)
    images = images_of(store, card, "samples", question.samples, question.per_class)
    split, classifier = images.split, images.fit(classifier)
    words = ((question.score, "logit"), (images.name.replace(":", "-"), ""), (question.reduction, "max"))
    told = [value for value, usual in words if value != usual]
    final = store.attributions_root / slug(images.dataset) / "-".join([f"{entry.name}@v{entry.version}", "all", *told])
    pairs = []
    with whole_folder(final.parent) as folder:
        for i, image in enumerate(np.asarray(split.images)):
            inputs = to_inputs(torch.tensor(image[None], device=device))
            logits, attribution = (part.cpu().numpy() for part in attribute_all(classifier, inputs, question.score))
            pairs.append((logits[0], attribution))
            label = images.classes[int(split.labels[i])]
            sheet = _sheet(card, image, logits[0], to_heatmap(attribution, question.reduction), label, question)
            (folder / f"{i}.png").write_bytes(colors.png_bytes(sheet))
        logits, attribution = (np.stack(parts) for parts in zip(*pairs, strict=True))
        np.savez(folder / "maps.npz", ids=split.ids, labels=split.labels, logits=logits, attribution=attribution)
        write_json(folder / "card.json", _card(entry.reference, card, question, images))
        swap_folder(folder, final)
    return final, len(pairs)


def _card(reference: str, card: Card, question: Question, images: ImageSet) -> dict[str, Any]:
    about = {"model": reference, "sha256": card.sha256, "dataset": card.dataset, "targets": "all"}
    unit = options.unit(question.score, question.method)
    about |= {"images": images.dataset, "samples": images.name}
    return about | {"score": question.score, "reduction": question.reduction, "unit": unit, "classes": card.classes}


def _sheet(
    card: Card,
    image: UInt8[np.ndarray, "h w c"],
    logits: Float32[np.ndarray, "k"],
    maps: Float32[np.ndarray, "k h w"],
    label: str,
    question: Question,
) -> UInt8[np.ndarray, "height width 3"]:
    probs, order = softmax(logits), np.argsort(-logits, kind="stable")
    scaled = rescale(list(maps), mode="shared", clip=labels.CLIP)
    middle = rescale([maps.mean(axis=0)], mode="each", clip=1.0)[0]
    rows = []
    for start in range(0, len(order), PER_ROW):
        some = order[start : start + PER_ROW]
        rows.append(
            panels.ClassRow(
                title=f"classes {start + 1}–{start + len(some)} of {len(order)}, most probable first",
                facts=["the mean is over all classes"],
                images=[image] * len(some),
                maps=[scaled[j].values for j in some],
                captions=[f"{card.classes[j]} {labels.percent(float(probs[j]))}" for j in some],
                mean_map=middle.values,
                limit=middle.limit,
            )
        )
    unit = options.unit(question.score, question.method)
    title = [f"label {label}", f"{card.name}: the {options.SCORE_WORDS[question.score]} of every class, on one scale"]
    return panels.class_figure(rows, title=title, unit=unit, signed=question.reduction == "signed")
