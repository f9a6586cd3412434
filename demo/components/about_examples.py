"""Live examples for the tab About, drawn with a model of the store; each links to the same view in Compare."""

from dataclasses import dataclass, replace

import numpy as np

from cvx.plotting import colors
from demo.backend import map_rows
from demo.backend.catalog import Catalog, DatasetEntry
from demo.backend.map_rows import Cell, MapRow
from demo.backend.service import ModelService
from demo.components.markup import picture, text
from demo.state.selection import Choice, Pick


@dataclass(frozen=True)
class Example:
    """One thing to see, and the two ways of drawing one row that show it."""

    title: str
    words: str
    ways: dict[str, Choice]
    """By what the picture is; the second one is where the link leads."""


PLAIN = Choice()
EXAMPLES = (
    Example(
        "Magnitude and sign",
        "How strongly a pixel moves the score, and which way: red, brighter raises it; blue, brighter lowers it.",
        {"largest magnitude": PLAIN, "signed sum": replace(PLAIN, reduction="signed")},
    ),
    Example(
        "Another class, another map?",
        "The same image and model, asked about its first and its second guess. Maps that hardly differ say"
        " where the image has structure rather than why this class was chosen.",
        {"predicted class": PLAIN, "runner-up": replace(PLAIN, target="runner_up")},
    ),
    Example(
        "Noise, or what the model sees?",
        "Averaged over noisy copies of the image (SmoothGrad), what was speckle fades. What stays is what the"
        " model reacts to around this image, not only at it.",
        {"vanilla gradient": PLAIN, "SmoothGrad": replace(PLAIN, method="smoothgrad")},
    ),
    Example(
        "The scale makes the picture",
        "The same numbers, on a scale that ends at the largest value and on one that ends at the 90th percentile."
        " A map looks sparse or busy as you like: read the scale under it.",
        {"scale to the maximum": replace(PLAIN, clip=100.0), "scale to the 90th percentile": replace(PLAIN, clip=90.0)},
    ),
)


def examples(service: ModelService) -> str:
    """Draw what one model of the store shows; nothing, if none can answer."""
    catalog = service.catalog()
    found = _model(catalog)
    if found is None:
        return ""
    dataset, column = found
    cards = "".join(_card(service, catalog, dataset, column, example) for example in EXAMPLES)
    if not cards:
        return ""
    query = dataset.sample(0)
    image = picture(colors.gray_or_rgb(query.image), "the image that the examples are of")
    words = f"What {column} of this store makes of the first test sample of {dataset.name}, {query.name}:"
    head = f'<div class="cvx-first">{image}<p>{text(words)}</p></div>'
    return f'<h3>See for yourself</h3>{head}<div class="cvx-live">{cards}</div>'


def _model(catalog: Catalog) -> tuple[DatasetEntry, str] | None:
    """Choose a dataset with samples, one with masks first, and its best model."""
    able = [dataset for dataset in catalog.datasets.values() if dataset.gallery is not None and dataset.columns]
    able.sort(key=lambda dataset: dataset.gallery is None or dataset.gallery.masks is None)
    return (able[0], next(iter(able[0].columns))) if able else None


def _card(service: ModelService, catalog: Catalog, dataset: DatasetEntry, column: str, example: Example) -> str:
    ways = {what: replace(way, datasets=(dataset.name,), models=(column,)) for what, way in example.ways.items()}
    figures = [_figure(map_rows.make_rows(service, catalog, way, {})[0], way, what) for what, way in ways.items()]
    if not all(figures):  # a model that is damaged or too slow says so in the tab Compare
        return ""
    link = text(f"?{[*ways.values()][1].link({dataset.name: Pick()})}")
    return (
        f'<article><h3>{example.title}</h3><div class="cvx-pair">{"".join(figures)}</div><p>{example.words}</p>'
        f'<p><a href="{link}">Compare models so</a></p></article>'
    )


def _figure(map_row: MapRow, choice: Choice, words: str) -> str:
    cell: Cell | None = next(iter(map_row.cells), None)
    if cell is None or cell.explanation is None or cell.scaled is None:
        return ""
    target = cell.explanation.card.classes[int(cell.explanation.targets[0])]
    pixels = colors.colorize(np.asarray(cell.scaled.values), choice.reduction == "signed")
    said = f"{words}, {target}"
    return f"<figure>{picture(pixels, said)}<figcaption>{text(said)}</figcaption></figure>"
