"""Compute the rows of the tab Compare: one row a dataset, one cell a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cvx.attribution import Scaled, to_heatmap
from cvx.data.transforms import fit_masks
from cvx.maps.explanation import Explanation, heatmaps
from cvx.metrics.agreement import map_features, spearman
from cvx.store import ModelEntry
from demo.backend.catalog import Catalog, DatasetEntry, QueryImage
from demo.backend.service import ModelService
from demo.state.selection import Choice, Pick

MAX_CELLS = 48
NO_UPLOAD = "Upload an image, and every chosen model looks at it."


@dataclass(frozen=True, eq=False)
class Cell:
    """One model's explanation, or the error that prevented it."""

    column: str
    entry: ModelEntry | None
    explanation: Explanation | None = None
    scaled: Scaled | None = None
    error: str = ""


@dataclass(frozen=True, eq=False)
class MapRow:
    """One image with a cell for every model, or the error that prevented it."""

    dataset: DatasetEntry
    query: QueryImage | None = None
    cells: tuple[Cell, ...] = ()
    error: str = ""

    @property
    def label(self) -> str:
        """Return the ground truth in words; empty if it is not known."""
        return self.query.name if self.query else ""


def make_rows(
    service: ModelService, catalog: Catalog, choice: Choice, picks: Mapping[str, Pick], upload: Path | None = None
) -> list[MapRow]:
    """Compute the rows of a choice; a model that fails has the reason in its cell, and the others are shown.

    Raises:
        ValueError: If more is asked than a page can show, or the upload is no image.
    """
    rows = catalog.rows(choice.datasets, choice.samples)
    if len(rows) * len(choice.models) > MAX_CELLS:
        raise ValueError(f"{len(rows)} datasets × {len(choice.models)} models exceed {MAX_CELLS} cells; untick some")
    if choice.source == "samples":
        return [_make_row(service, dataset, choice, picks.get(dataset.name, Pick())) for dataset in rows]
    if upload is None:
        return [MapRow(dataset, error=NO_UPLOAD) for dataset in rows]
    own = service.upload(upload)
    return [_make_row(service, dataset, choice, picks.get(dataset.name, Pick()), own) for dataset in rows]


def _make_row(
    service: ModelService, dataset: DatasetEntry, choice: Choice, pick: Pick, own: QueryImage | None = None
) -> MapRow:
    try:
        query = own or dataset.sample(min(pick.index, max(0, len(dataset.gallery or ()) - 1)))
    except ValueError as error:
        return MapRow(dataset, error=str(error))
    target = choice.target
    if target == "class":
        target = pick.target if pick.target in dataset.classes else query.name or dataset.classes[0]
    cells = [
        explain_cell(service, column, dataset.columns.get(column), query, target, choice) for column in choice.models
    ]
    return MapRow(dataset, query, tuple(scale(cells, choice)))


def explain_cell(
    service: ModelService, column: str, entry: ModelEntry | None, query: QueryImage, target: str, choice: Choice
) -> Cell:
    """Explain one model's answer; an error becomes the cell's."""
    if entry is None:
        return Cell(column, None)
    try:
        if choice.target in ("runner_up", "difference"):
            return Cell(column, entry, contrast(service, entry, query, choice))
        return Cell(column, entry, service.explain(entry, query, target, choice.score, choice.method))
    except (ValueError, OSError, RuntimeError) as error:
        return Cell(column, entry, error=str(error))


def contrast(service: ModelService, entry: ModelEntry, query: QueryImage, choice: Choice) -> Explanation:
    """Explain a model's second most probable class, or what speaks for its first and against its second.

    Attributions are linear in the score, so that of a difference is the difference of the attributions.

    Raises:
        ValueError: If the model is damaged or knows a single class.
    """
    first = service.explain(entry, query, "pred", choice.score, choice.method)
    second = runner_up(first)
    other = replace(query, key=f"{query.key}#{second}", label=second, classes=())  # an index into the model's own
    found = service.explain(entry, other, "label", choice.score, choice.method)
    if choice.target == "runner_up":
        return found
    return replace(first, attribution=first.attribution - found.attribution)


def runner_up(explanation: Explanation) -> int:
    """Return the second most probable class.

    Raises:
        ValueError: If there is no second class.
    """
    if explanation.logits.shape[1] < 2:
        raise ValueError(f"{explanation.reference} knows a single class, so there is no runner-up")
    return int(np.argsort(-explanation.logits[0], kind="stable")[1])


def norm(explanation: Explanation) -> float:
    """Return the Euclidean norm of a gradient over all pixels and channels."""
    return float(np.linalg.norm(explanation.attribution[0].astype(np.float64)))


def largest(explanation: Explanation) -> float:
    """Return the largest magnitude of a gradient."""
    return float(np.abs(explanation.attribution[0]).max())


def scale(cells: Sequence[Cell], choice: Choice) -> list[Cell]:
    """Scale the maps of a row as chosen."""
    able = [cell for cell in cells if cell.explanation is not None]
    explanations = [cell.explanation for cell in able if cell.explanation is not None]
    limit = choice.limit if choice.scale == "absolute" else None
    drawn = heatmaps(explanations, 0, choice.reduction, choice.scale, choice.clip / 100, limit) if explanations else []
    by_column = {cell.column: one for cell, one in zip(able, drawn, strict=True)}
    return [replace(cell, scaled=by_column.get(cell.column)) for cell in cells]


@dataclass(frozen=True)
class Beside:
    """What a map is held against: the first map of its row, and the mask of its image."""

    first: str = ""
    """The row's first model; empty for its own map, and for maps of other sizes."""
    spearman: float = float("nan")
    """Rank correlation of the magnitudes with the first map."""
    mass_on_mask: float = float("nan")
    """Share of the map on the pixels that decide the class."""
    mask_share: float | None = None
    """What chance would give; None where no mask is known."""


def beside(cell: Cell, map_row: MapRow, choice: Choice) -> Beside:
    """Measure a map against the row's first and against the mask; nan is undefined, as for a map of zeros."""
    explanation, found = cell.explanation, Beside()
    first = next((one for one in map_row.cells if one.explanation is not None), cell)
    assert explanation is not None and first.explanation is not None
    if first is not cell and first.explanation.attribution.shape == explanation.attribution.shape:
        alike = float(spearman(map_features(first.explanation.attribution), map_features(explanation.attribution))[0])
        found = replace(found, first=first.column, spearman=alike)
    if map_row.query is None or map_row.query.mask is None:
        return found
    mask = fit_masks(map_row.query.mask[None], explanation.images.shape[1])[0]
    heat = np.abs(to_heatmap(explanation.attribution, choice.reduction)[0]).astype(np.float64)
    mass = float(heat[mask].sum() / heat.sum()) if heat.any() else float("nan")
    return replace(found, mass_on_mask=mass, mask_share=float(mask.mean()))
