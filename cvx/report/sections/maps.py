"""Report sections on maps: a grid of images and models, and class summaries."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, UInt8

from cvx import comparison
from cvx.attribution import rescale, to_heatmap
from cvx.attribution.options import METHOD_WORDS, REDUCTION_WORDS, unit
from cvx.maps.class_summary import ClassSummary, summarize_class
from cvx.maps.explanation import Explanation, top_classes
from cvx.plotting import colors
from cvx.plotting.colors import data_uri
from cvx.plotting.labels import CLIP, number, percent
from cvx.report.blocks import (
    Block,
    Heading,
    MapCell,
    MapGrid,
    Scale,
    Table,
    Text,
)
from cvx.report.snapshot import DatasetResults, ExplainedModel, StoreSnapshot, placeless

NARROW = "\u202f"
NUM_IMAGES = 10
"""Images of a grid, and classes of a class view."""
WAYS = (
    ("shared", "one scale"),
    ("model", "a scale per model"),
    ("each", "a scale per map"),
    ("signed", "signed, one scale"),
)


def maps(study: StoreSnapshot) -> list[Block]:
    """Draw models × images, one grid per dataset."""
    blocks: list[Block] = []
    for part in study.parts:
        if part.lookers and part.samples is not None:
            rows = _one_per_class(part.lookers[0].view.targets, NUM_IMAGES)
            blocks += [Heading(part.dataset), map_grid(part, rows, f"maps-{part.dataset}")]
    return blocks or [Text("No model of this store can look at its samples, so there are no maps.", "note")]


def _one_per_class(labels: Int64[np.ndarray, "n"], num: int) -> list[int]:
    """Take the first image of each class, of classes evenly spaced where there are more than `num`."""
    present = np.unique(labels)
    picked = present[np.unique(np.linspace(0, len(present) - 1, min(num, len(present))).round().astype(int))]
    return [int(np.flatnonzero(labels == label)[0]) for label in picked]


def map_grid(
    part: DatasetResults, rows: Sequence[int], name: str, lookers: Sequence[ExplainedModel] | None = None
) -> MapGrid:
    """Draw the maps of some of the images that the dataset's models looked at, in all the ways that a page offers."""
    asked = list(lookers or part.lookers)
    drawn = {key: _drawn([one.view for one in asked], rows, key) for key, _ in WAYS}
    labels = _labels(part, asked[0].view, rows)
    cells = tuple(
        tuple(
            _cell(one.view, row, labels[i], {key: found[j][i] for key, (found, _) in drawn.items()})
            for j, one in enumerate(asked)
        )
        for i, row in enumerate(rows)
    )
    names = dict(zip((one.entry.name for one in part.lookers), part.names(), strict=True))
    first = asked[0].view
    words = unit(first.score, first.method)
    scales = {key: Scale(number(limit), words, key == "signed") for key, (_, limit) in drawn.items() if limit}
    images = tuple(data_uri(colors.gray_or_rgb(first.images[row])) for row in rows)
    shown = tuple(names[one.entry.name] for one in asked)
    return MapGrid(
        name, shown, images, tuple(labels), cells, WAYS, scales, f"{how_drawn(first)} {_strengths(shown, asked)}"
    )


def _strengths(names: Sequence[str], lookers: Sequence[ExplainedModel]) -> str:
    """Say how strong each model's maps are on the whole, which a row that is dark on one scale hides."""
    flat = [one.view.attribution.reshape(len(one.view), -1).astype(np.float64) for one in lookers]
    told = [
        f"{name} {number(float(np.linalg.norm(maps, axis=1).mean()))}" for name, maps in zip(names, flat, strict=True)
    ]
    return f"Mean norm of the attribution over {len(lookers[0].view)} images: {', '.join(told)}."


def _labels(part: DatasetResults, view: Explanation, rows: Sequence[int]) -> list[str]:
    return [view.card.classes[view.targets[row]] for row in rows]


def _drawn(views: Sequence[Explanation], rows: Sequence[int], way: str) -> tuple[list[list[str]], float]:
    """Draw every view's maps of the rows; the limit is 0 where each has its own."""
    reduction, mode = ("signed" if way == "signed" else "max"), ("each" if way == "each" else "shared")
    found = [list(to_heatmap(view.attribution[list(rows)], reduction)) for view in views]
    if way == "model":
        scaled = [one for own in found for one in rescale(own, mode="shared", clip=CLIP)]
    else:
        scaled = rescale([one for own in found for one in own], mode=mode, clip=CLIP)
    uris = [data_uri(colors.colorize(one.values, way == "signed")) for one in scaled]
    num = len(rows)
    return [uris[i * num : (i + 1) * num] for i in range(len(views))], 0.0 if way in ("model", "each") else scaled[
        0
    ].limit


def _cell(view: Explanation, row: int, label: str, uris: dict[str, str]) -> MapCell:
    (pred, prob) = top_classes(view, row, 1)[0]
    norm = number(float(np.linalg.norm(view.attribution[row].astype(np.float64))))
    detail = f"{view.reference}: predicted {pred}, {percent(prob)}; label {label}; norm of the attribution {norm}"
    told = percent(prob).replace(" %", NARROW + "%")
    return MapCell(uris, told if pred == label else f"{pred} {told}", pred != label, detail)


def how_drawn(view: Explanation) -> str:
    """Say in one sentence what a map shows and how its channels became one."""
    return (
        f"{METHOD_WORDS[view.method].capitalize()} of the logit of the true class, {REDUCTION_WORDS['max']}; the"
        f" signed maps sum the channels: {colors.SIGNS}. A scale ends where {percent(1 - CLIP)} of the brightest"
        " map's pixels lie beyond it."
    )


def classes(study: StoreSnapshot) -> list[Block]:
    """Draw the mean map of each class, and tell in numbers where the maps lie."""
    blocks: list[Block] = []
    for part in study.parts:
        if part.lookers and part.samples is not None:
            blocks += [Heading(part.dataset), _class_grid(part)]
    models = [one for part in study.parts for one in part.models]
    if models:
        blocks += _properties(study, models)
    return blocks or [Text("No model of this store can look at its samples.", "note")]


def _class_grid(part: DatasetResults) -> MapGrid:
    assert part.samples is not None
    labels = part.samples.split.labels[: len(part.lookers[0].view)]
    shown = [int(labels[row]) for row in _one_per_class(np.asarray(labels), NUM_IMAGES)]
    views = [[_class_view(part, one, label) for label in shown] for one in part.lookers]
    means = [[view.mean_map * np.float32(view.mean_map.size) for view in own] for own in views]
    limit = max(float(mean.max()) for own in means for mean in own)
    own = rescale([mean for row in means for mean in row], mode="each", clip=1.0)
    num, safe = len(shown), np.float32(limit or 1.0)

    def cell(i: int, j: int) -> MapCell:
        drawn = {"shared": means[j][i] / safe, "each": own[j * num + i].values}
        return _class_cell(views[j][i], {key: data_uri(colors.colorize(one)) for key, one in drawn.items()})

    images = tuple(data_uri(colors.gray_or_rgb(_mean_image(part, label))) for label in shown)
    return MapGrid(
        f"classes-{part.dataset}",
        tuple(part.names()),
        images,
        tuple(part.samples.classes[label] for label in shown),
        tuple(tuple(cell(i, j) for j in range(len(views))) for i in range(num)),
        (WAYS[0], WAYS[2]),
        {"shared": Scale(number(limit), "× uniform map")},
    )


def _class_view(part: DatasetResults, looker: ExplainedModel, label: int) -> ClassSummary:
    assert part.samples is not None
    split, view = part.samples.split.head(len(looker.view)), looker.view
    rows = np.flatnonzero(split.labels == label).astype(np.int64)
    own = Explanation(
        view.reference,
        view.card,
        view.images[rows],
        view.logits[rows],
        view.targets[rows],
        view.attribution[rows],
        view.score,
        view.method,
    )
    masks = None if split.masks is None else np.asarray(split.masks[rows])
    return summarize_class(own, rows, part.samples.classes[label], masks)


def _class_cell(view: ClassSummary, uris: dict[str, str]) -> MapCell:
    caption = f"bias {view.center_bias:.2f}" if np.isfinite(view.center_bias) else "–"
    detail = f"{view.reference}, {view.class_name}: {view.num} images, {percent(view.accuracy)} recognized"
    if view.mass_on_mask is not None and view.mask_share is not None:
        caption = f"on mask {view.mass_on_mask:.0%} (chance {view.mask_share:.0%})".replace("%", NARROW + "%")
        detail += f", mass on the mask {percent(view.mass_on_mask)} (chance: {percent(view.mask_share)})"
    return MapCell(uris, caption, False, detail)


def _mean_image(part: DatasetResults, label: int) -> UInt8[np.ndarray, "h w c"]:
    """Average the images of a class: what lies in the same place stays sharp."""
    view = part.lookers[0].view
    assert part.samples is not None
    rows = np.flatnonzero(np.asarray(part.samples.split.labels[: len(view)]) == label)
    return view.images[rows].astype(np.float64).mean(axis=0).round().astype(np.uint8)


def _properties(study: StoreSnapshot, models: comparison.Models) -> list[Block]:
    options = comparison.Options(num=study.num)
    try:
        found = comparison.properties(study.store, models, options, study.runtime)
    except (ValueError, OSError) as error:
        return [Text(placeless(f"the maps cannot be put in numbers: {error}", study.store), "problem")]
    places = range(len(found.references))
    names = [name for name in found.names if any(found.interval(name, i).num for i in places)]
    rows = []
    by_chance = [name for name in names if any(not np.isnan(found.chance(name, i)) for i in places)]
    for i, reference in enumerate(found.references):
        told = [found.interval(name, i).text() for name in names]
        told += [comparison.decimal(found.chance(name, i)) for name in by_chance]
        rows.append((reference, *told))
    titles = tuple(name.replace("_", " ") for name in names)
    words = "; ".join(f"{title}: {comparison.TABLE_WORDS[name]}" for title, name in zip(titles, names, strict=True))
    caption = f"Mean over up to {study.num} images with 95 % bootstrap interval. {words}."
    columns = ("model", *titles, *(f"{name.replace('_', ' ')} by chance" for name in by_chance))
    return [Heading("In numbers"), Table(columns, tuple(rows), caption=caption)]
