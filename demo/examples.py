"""Live examples for the tab About: what to beware of, drawn with models of the store, each a link to the same view."""

from dataclasses import dataclass, replace

import numpy as np

from cvx import render
from demo import looking
from demo.choice import Choice, Pick
from demo.looking import Cell, Line
from demo.markup import picture, text
from demo.shelf import Listing, Shelf, Shown


@dataclass(frozen=True, kw_only=True)
class Example:
    """One thing to see, and the two ways of drawing one row that show it."""

    title: str
    words: str
    first: str
    second: str
    """What the two pictures are."""
    choices: tuple[Choice, Choice]


PLAIN = Choice()
EXAMPLES = (
    Example(
        title="Magnitude and sign",
        words="How strongly a pixel moves the score, and which way: red, brighter raises it; blue, brighter lowers it.",
        first="largest magnitude",
        second="signed sum",
        choices=(PLAIN, replace(PLAIN, reduction="signed")),
    ),
    Example(
        title="Another class, another map?",
        words="The same image and model, asked about its first and its second guess. Maps that hardly differ say"
        " where the image has structure rather than why this class was chosen.",
        first="predicted class",
        second="runner-up",
        choices=(PLAIN, replace(PLAIN, target="runner_up")),
    ),
    Example(
        title="Noise, or what the model sees?",
        words="Averaged over noisy copies of the image (SmoothGrad), what was speckle fades. What stays is what the"
        " model reacts to around this image, not only at it.",
        first="vanilla gradient",
        second="SmoothGrad",
        choices=(PLAIN, replace(PLAIN, method="smoothgrad")),
    ),
    Example(
        title="The scale makes the picture",
        words="The same numbers, on a scale that ends at the largest value and on one that ends at the 90th percentile."
        " A map looks sparse or busy as you like: read the scale under it.",
        first="scale to the maximum",
        second="scale to the 90th percentile",
        choices=(replace(PLAIN, clip=100.0), replace(PLAIN, clip=90.0)),
    ),
)


def examples(shelf: Shelf) -> str:
    """Draw what one model of the store shows; nothing, if none can answer."""
    listing = shelf.listing()
    found = _model(listing)
    if found is None:
        return ""
    shown, column = found
    cards = "".join(_card(shelf, listing, shown, column, one) for one in EXAMPLES)
    if not cards:
        return ""
    subject = shown.subject(0)
    image = picture(render.gray_or_rgb(subject.image), "the image that the examples are of")
    words = f"What {column} of this store makes of the first test sample of {shown.name}, {subject.name}:"
    head = f'<div class="cvx-first">{image}<p>{text(words)}</p></div>'
    return f'<h3>See for yourself</h3>{head}<div class="cvx-live">{cards}</div>'


def _model(listing: Listing) -> tuple[Shown, str] | None:
    """Choose a dataset with samples, one with masks first, and its best model."""
    able = [shown for shown in listing.datasets.values() if shown.gallery is not None and shown.columns]
    able.sort(key=lambda shown: shown.gallery is None or shown.gallery.masks is None)
    return (able[0], next(iter(able[0].columns))) if able else None


def _card(shelf: Shelf, listing: Listing, shown: Shown, column: str, one: Example) -> str:
    choices = [replace(choice, datasets=(shown.name,), models=(column,)) for choice in one.choices]
    drawn = [looking.lines(shelf, listing, choice, {})[0] for choice in choices]
    figures = [_figure(line, choice, words) for line, choice, words in zip(drawn, choices, _words(one), strict=True)]
    if not all(figures):  # a model that is damaged or too slow says so in the tab Compare
        return ""
    link = text(f"?{choices[1].link({shown.name: Pick()})}")
    return (
        f'<article><h3>{one.title}</h3><div class="cvx-pair">{"".join(figures)}</div><p>{one.words}</p>'
        f'<p><a href="{link}">Compare models so</a></p></article>'
    )


def _words(one: Example) -> tuple[str, str]:
    return one.first, one.second


def _figure(line: Line, choice: Choice, words: str) -> str:
    cell: Cell | None = next(iter(line.cells), None)
    if cell is None or cell.view is None or cell.scaled is None:
        return ""
    target = cell.view.card.classes[int(cell.view.targets[0])]
    pixels = render.colorize(np.asarray(cell.scaled.values), choice.reduction == "signed")
    said = f"{words}, {target}"
    return f"<figure>{picture(pixels, said)}<figcaption>{text(said)}</figcaption></figure>"
