"""Report section that explains the gradient on one image of this store, from its pixels to its map, and tests it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from cvx.attribution import frozen, rescale, to_heatmap
from cvx.maps.explanation import Explanation, top_classes
from cvx.models import Classifier
from cvx.plotting import colors
from cvx.plotting.colors import data_uri
from cvx.plotting.labels import CLIP, percent
from cvx.report.blocks import Block, Command, Heading, LabeledList, Step, Steps, Table, Text
from cvx.report.snapshot import DatasetResults, ExplainedModel, StoreSnapshot

LEVELS = (1, 8, 32)
"""Changes of a pixel that are tried, in steps of 1/255."""
READING = (
    ("Bright", "the score is sensitive to this pixel, for small changes, at this very image."),
    ("Dark", "a small change of this pixel alone does nothing; it may still matter together with others."),
    ("Not a cause", "a gradient says what would change the score, not what made it: no map proves why."),
    (
        "Which score",
        "the map of another class is another map; here it is always the true class, also where the model is wrong.",
    ),
    ("Which scale", "with a scale of its own every map looks equally strong; compare brightness on one scale only."),
    ("Noise", "speckle is what a gradient of a network looks like; averaging (SmoothGrad) makes it calmer, not truer."),
    (
        "Wrong and right",
        "a model may be right while it looks at the background: that is what maps are good at finding.",
    ),
    (
        "One image is none",
        "before you say that a model looks at ears, look at the mean over many images, and at another seed.",
    ),
)


@dataclass(frozen=True)
class PixelChange:
    """One small change of the image: what the gradient foretells and what the network then says."""

    what: str
    levels: int
    foretold: float
    measured: float


def lesson(study: StoreSnapshot) -> list[Block]:
    """Lead through one image: the first that the most accurate model of the finest dataset gets right."""
    chosen = _choose(study)
    if chosen is None:
        return [Text("No model of this store can look at its samples, so there is no example.", "note")]
    part, looker, row = chosen
    _, side, _, channels = looker.view.images.shape
    classifier = study.loaded.load(looker.entry, looker.card, study.device).of(side, channels)
    label = looker.view.card.classes[looker.view.targets[row]]
    whose = (
        f"{looker.entry.reference} looks at the first sample of {part.dataset} that it recognizes, of class {label}."
    )
    return [
        Heading("One image, step by step", whose),
        Steps(_steps(looker, row)),
        Heading("Put to the test", "the same pixels, changed for real"),
        Text(_tested(label)),
        _table(trials(classifier, looker, row)),
        Heading("How to read the maps on this page"),
        LabeledList(READING),
        Text("The same for any image and model of this store, on a page to play with:"),
        Command("python demo/app.py"),
    ]


def _choose(study: StoreSnapshot) -> tuple[DatasetResults, ExplainedModel, int] | None:
    parts = [part for part in study.parts if part.lookers]
    if not parts:
        return None
    part = max(parts, key=lambda one: one.lookers[0].card.image_size)
    looker = max(part.lookers, key=lambda one: one.card.metrics.get("val/acc1", 0.0))
    right = np.flatnonzero(looker.view.preds == looker.view.targets)
    return part, looker, int(right[0]) if len(right) else 0


def _steps(looker: ExplainedModel, row: int) -> tuple[Step, ...]:
    view = looker.view
    image, one = view.images[row], view.attribution[row : row + 1]
    signed = rescale(list(to_heatmap(one, "signed")), mode="each", clip=CLIP)[0].values
    size = rescale(list(to_heatmap(one)), mode="each", clip=CLIP)[0].values
    _, side, _, channels = view.images.shape
    numbers = f"{side} × {side} × {channels}" if channels > 1 else f"{side} × {side}"
    return (
        Step(
            "1. The image",
            f"{numbers} numbers between 0 and 1: all that the model gets.",
            data_uri(colors.gray_or_rgb(image)),
        ),
        Step("2. The score", _score(view, row), bars=tuple(top_classes(view, row))),
        Step(
            "3. The gradient",
            "How that score changes with each pixel. Red: brighter raises it; blue: it lowers it; white: no effect.",
            data_uri(colors.colorize(signed, signed=True)),
        ),
        Step(
            "4. Its size",
            "Only how strong, not in which direction; of the channels the strongest. This is what the maps show.",
            data_uri(colors.colorize(size)),
        ),
        Step(
            "5. Over the image", "To see which parts of the object are bright.", data_uri(colors.overlay(image, size))
        ),
    )


def _score(view: Explanation, row: int) -> str:
    pred, target = int(view.preds[row]), view.targets[row]
    label, prob = view.card.classes[target], percent(float(view.probs[row, target]))
    return (
        f"The model says {view.card.classes[pred]}. Its score (logit) of {label} is {view.logits[row, target]:.2f}:"
        f" a probability of {prob}."
    )


def _tested(label: str) -> str:
    return (
        f"A gradient is a claim that can be checked: change a pixel by a little, and the score of {label} must change"
        " by the gradient times that little. The network was asked again for each row. Small steps keep the promise;"
        " for large ones, or for many pixels at once, the straight line that a gradient is leaves the curve that a"
        " network is. So a map speaks of small changes at this image, not of taking the object away."
    )


def trials(classifier: Classifier, looker: ExplainedModel, row: int) -> list[PixelChange]:
    """Change the strongest pixel, a middling one and all pixels, and ask the network again."""
    gradient = looker.view.attribution[row]
    order = np.argsort(np.abs(gradient), axis=None)
    changes = [("the strongest pixel", order[-1:], level) for level in LEVELS]
    changes += [("a middling pixel", order[len(order) // 2 : len(order) // 2 + 1], LEVELS[0])]
    changes += [("all pixels, each as raises the score", order, level) for level in LEVELS[:2]]
    steps = [_step(gradient, where, level) for _, where, level in changes]
    measured = _differences(classifier, looker, row, steps)
    return [
        PixelChange(what, level, float((step.astype(np.float64) * gradient).sum()), change)
        for (what, _, level), step, change in zip(changes, steps, measured, strict=True)
    ]


def _step(gradient: Float32[np.ndarray, "c h w"], where: np.ndarray, level: int) -> Float32[np.ndarray, "c h w"]:
    step = np.zeros(gradient.size, np.float32)
    step[where] = np.sign(gradient.ravel()[where]) * np.float32(level / 255)
    return step.reshape(gradient.shape)


def _differences(
    classifier: Classifier, looker: ExplainedModel, row: int, steps: Sequence[Float32[np.ndarray, "c h w"]]
) -> list[float]:
    """Return by how much the score changes; in float64, since the changes are small."""
    image = looker.view.images[row].astype(np.float64).transpose(2, 0, 1) / 255
    inputs = torch.tensor(np.stack([image, *(image + step for step in steps)]))
    exact = classifier.double().cpu()
    with frozen(exact, torch.device("cpu")), torch.no_grad():
        scores = exact(inputs)[:, int(looker.view.targets[row])]
    return (scores[1:] - scores[0]).tolist()


def _table(found: Sequence[PixelChange]) -> Table:
    rows = tuple((one.what, f"{one.levels}/255", f"{one.foretold:+.4f}", f"{one.measured:+.4f}") for one in found)
    return Table(("change", "by", "the gradient says", "the network says"), rows)
