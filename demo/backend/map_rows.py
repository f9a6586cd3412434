"""A choice answered: rows of cells, one row a dataset, one cell a model."""

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
    """One model's answer, or why there is none."""

    column: str
    entry: ModelEntry | None
    view: Explanation | None = None
    scaled: Scaled | None = None
    error: str = ""


@dataclass(frozen=True, eq=False)
class MapRow:
    """One image and what every model makes of it, or why there is none."""

    shown: DatasetEntry
    subject: QueryImage | None = None
    cells: tuple[Cell, ...] = ()
    error: str = ""

    @property
    def label(self) -> str:
        """Return the ground truth in words; empty if it is not known."""
        return self.subject.name if self.subject else ""


def lines(
    shelf: ModelService, listing: Catalog, choice: Choice, picks: Mapping[str, Pick], upload: Path | None = None
) -> list[MapRow]:
    """Answer a choice; what one model cannot do stands in its cell and keeps no other from its own.

    Raises:
        ValueError: If more is asked than a page can show, or the upload is no image.
    """
    rows = listing.rows(choice.datasets, choice.samples)
    if len(rows) * len(choice.models) > MAX_CELLS:
        raise ValueError(f"{len(rows)} datasets × {len(choice.models)} models exceed {MAX_CELLS} cells; untick some")
    if choice.source == "samples":
        return [_line(shelf, shown, choice, picks.get(shown.name, Pick())) for shown in rows]
    if upload is None:
        return [MapRow(shown, error=NO_UPLOAD) for shown in rows]
    own = shelf.upload(upload)
    return [_line(shelf, shown, choice, picks.get(shown.name, Pick()), own) for shown in rows]


def _line(
    shelf: ModelService, shown: DatasetEntry, choice: Choice, pick: Pick, own: QueryImage | None = None
) -> MapRow:
    try:
        subject = own or shown.subject(min(pick.index, max(0, len(shown.gallery or ()) - 1)))
    except ValueError as error:
        return MapRow(shown, error=str(error))
    target = choice.target
    if target == "class":
        target = pick.target if pick.target in shown.classes else subject.name or shown.classes[0]
    cells = [look(shelf, column, shown.columns.get(column), subject, target, choice) for column in choice.models]
    return MapRow(shown, subject, tuple(scale(cells, choice)))


def look(
    shelf: ModelService, column: str, entry: ModelEntry | None, subject: QueryImage, target: str, choice: Choice
) -> Cell:
    """Let one model look; an error becomes the cell's."""
    if entry is None:
        return Cell(column, None)
    try:
        if choice.target in ("runner_up", "difference"):
            return Cell(column, entry, contrast(shelf, entry, subject, choice))
        return Cell(column, entry, shelf.look(entry, subject, target, choice.score, choice.method))
    except (ValueError, OSError, RuntimeError) as error:
        return Cell(column, entry, error=str(error))


def contrast(shelf: ModelService, entry: ModelEntry, subject: QueryImage, choice: Choice) -> Explanation:
    """Explain a model's second most probable class, or what speaks for its first and against its second.

    Attributions are linear in the score, so that of a difference is the difference of the attributions.

    Raises:
        ValueError: If the model is damaged or knows a single class.
    """
    first = shelf.look(entry, subject, "pred", choice.score, choice.method)
    second = runner_up(first)
    other = replace(subject, key=f"{subject.key}#{second}", label=second, classes=())  # an index into the model's own
    found = shelf.look(entry, other, "label", choice.score, choice.method)
    if choice.target == "runner_up":
        return found
    return replace(first, attribution=first.attribution - found.attribution)


def runner_up(view: Explanation) -> int:
    """Return the second most probable class.

    Raises:
        ValueError: If there is no second class.
    """
    if view.logits.shape[1] < 2:
        raise ValueError(f"{view.reference} knows a single class, so there is no runner-up")
    return int(np.argsort(-view.logits[0], kind="stable")[1])


def norm(view: Explanation) -> float:
    """Return the Euclidean norm of a gradient over all pixels and channels."""
    return float(np.linalg.norm(view.attribution[0].astype(np.float64)))


def largest(view: Explanation) -> float:
    """Return the largest magnitude of a gradient."""
    return float(np.abs(view.attribution[0]).max())


def scale(cells: Sequence[Cell], choice: Choice) -> list[Cell]:
    """Scale the maps of a row as chosen."""
    able = [cell for cell in cells if cell.view is not None]
    views = [cell.view for cell in able if cell.view is not None]
    limit = choice.limit if choice.scale == "absolute" else None
    drawn = heatmaps(views, 0, choice.reduction, choice.scale, choice.clip / 100, limit) if views else []
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


def beside(cell: Cell, line: MapRow, choice: Choice) -> Beside:
    """Measure a map against the row's first and against the mask; nan is undefined, as for a map of zeros."""
    view, found = cell.view, Beside()
    first = next((one for one in line.cells if one.view is not None), cell)
    assert view is not None and first.view is not None
    if first is not cell and first.view.attribution.shape == view.attribution.shape:
        alike = float(spearman(map_features(first.view.attribution), map_features(view.attribution))[0])
        found = replace(found, first=first.column, spearman=alike)
    if line.subject is None or line.subject.mask is None:
        return found
    mask = fit_masks(line.subject.mask[None], view.images.shape[1])[0]
    heat = np.abs(to_heatmap(view.attribution, choice.reduction)[0]).astype(np.float64)
    mass = float(heat[mask].sum() / heat.sum()) if heat.any() else float("nan")
    return replace(found, mass_on_mask=mass, mask_share=float(mask.mean()))
