"""The panels of the tab Embeddings as HTML: every model's layout of the same test images, drawn in the browser."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from cvx.metrics.embedding import align
from cvx.plotting.labels import percent
from demo.backend.catalog import DatasetEntry
from demo.backend.run_history import EmbeddingPoints, RecordedRun, RunHistory
from demo.components.image_picker.image_picker import sprite_of
from demo.components.markup import notice, text

MAX_THUMBS = 64
CAVEAT = (
    "t-SNE and UMAP are layouts, not maps: they keep neighbors together, and distances between groups, sizes of groups"
    " and empty space mean little. PCA is a projection: it keeps distances as well as two directions can. Each model's"
    " layout is turned, mirrored and scaled onto the first one's, which changes no ratio of distances."
)


def panels(
    history: RunHistory,
    dataset: DatasetEntry | None,
    runs: Sequence[RecordedRun],
    layout: str,
    color: str,
    link: str = "",
) -> str:
    """Draw a panel per run, the tools above them and the gallery of what is selected below."""
    if not runs:
        return notice("Choose a run", "Tick one or more runs; a run's test logits are embedded when it ends.")
    embedded, errors = _points(history, runs)
    broken = "".join(notice(run.label, error, "error") for run, error in errors)
    if not embedded:
        return f'<div class="cvx-points">{broken}</div>'
    data = json.dumps(_data(embedded, dataset, layout, color))
    figures = "".join(_panel(run, points) for run, points in embedded)
    return (
        f'<div class="cvx-points" data-link="{text(link)}"><div hidden data-json="{text(data)}"></div>{broken}'
        f'{_tools()}<div class="cvx-cards cvx-panels" style="--columns:{len(embedded)}">{figures}</div>'
        f'<p class="cvx-small">{text(CAVEAT)}</p>'
        '<section class="cvx-card cvx-chosen" aria-live="polite"></section></div>'
    )


def thumbs(dataset: DatasetEntry | None, rows: Sequence[Any]) -> str:
    """Return the pictures of some samples side by side as one data URI; empty if there are none."""
    gallery = dataset.gallery if dataset else None
    num = len(gallery) if gallery else 0
    known = [row for row in rows[:MAX_THUMBS] if isinstance(row, int) and 0 <= row < num]
    if dataset is None or not known:
        return ""
    return sprite_of(dataset, np.array(known, dtype=np.int64))


def _points(
    history: RunHistory, runs: Sequence[RecordedRun]
) -> tuple[list[tuple[RecordedRun, EmbeddingPoints]], list[tuple[RecordedRun, str]]]:
    """Read every run's points; those of other test images than the first one's cannot be shown beside them."""
    embedded: list[tuple[RecordedRun, EmbeddingPoints]] = []
    errors = []
    for run in runs:
        try:
            points = history.points(run)
            if embedded and not np.array_equal(points.ids, embedded[0][1].ids):
                raise ValueError(f"its test samples are not those of {embedded[0][0].label}: show it alone")
            embedded.append((run, points))
        except (ValueError, OSError) as error:
            errors.append((run, str(error)))
    return embedded, errors


def _tools() -> str:
    modes = "".join(
        f'<button type="button" data-mode="{mode}" aria-pressed="{pressed}">{words}</button>'
        for mode, words, pressed in (("lasso", "Lasso", "true"), ("pan", "Move and zoom", "false"))
    )
    picks = "".join(
        f'<button type="button" data-select="{which}">{words}</button>'
        for which, words in (
            ("wrong", "A model is wrong"),
            ("disagree", "Models disagree"),
            ("none", "Clear"),
        )
    )
    return (
        f'<div class="cvx-selectors"><span role="group" aria-label="what dragging does">{modes}</span>'
        f'<span role="group" aria-label="select">{picks}</span></div>'
        '<div class="cvx-key-list" role="group" aria-label="classes: press to select"></div>'
    )


def _panel(run: RecordedRun, points: EmbeddingPoints) -> str:
    right = float((points.logits.argmax(axis=1) == points.labels).mean())
    return (
        f'<article class="cvx-card cvx-panel" data-run="{text(run.name)}" aria-label="{text(run.label)}">'
        f"<header><h3>{text(run.label)}</h3><span class='cvx-facts'>{len(points.ids)} images, {percent(right)} right"
        '</span></header><div class="cvx-plot" role="img" aria-label="scatter plot of the test images"></div>'
        '<p class="cvx-small cvx-trust"></p></article>'
    )


def _data(
    embedded: Sequence[tuple[RecordedRun, EmbeddingPoints]], dataset: DatasetEntry | None, layout: str, color: str
) -> dict[str, Any]:
    first = embedded[0][1]
    num = int(max(points.logits.shape[1] for _, points in embedded))
    classes = list(dataset.classes) if dataset else []
    return {
        "dataset": dataset.name if dataset else "",
        "layout": layout,
        "color": color,
        "classes": classes + [f"class {i}" for i in range(len(classes), num)],
        "labels": _packed(first.labels.astype("<i4")),
        "rows": _packed(_rows(first.ids, dataset).astype("<i4")),
        "runs": [_run(run, points, first) for run, points in embedded],
    }


def _run(run: RecordedRun, points: EmbeddingPoints, first: EmbeddingPoints) -> dict[str, Any]:
    probs = points.probs
    layouts = {name: align(xy, first.layouts.get(name, xy)) for name, xy in points.layouts.items()}
    return {
        "name": run.name,
        "label": run.label,
        "preds": _packed(probs.argmax(axis=1).astype("<i4")),
        "confidences": _packed(probs.max(axis=1).astype("<f4")),
        "layouts": {name: _packed(xy.astype("<f4")) for name, xy in layouts.items()},
        "trust": {name: _trust(run, name) for name in layouts},
    }


def _trust(run: RecordedRun, layout: str) -> str:
    """Say how true a layout is to the logits, where the run has measured it."""
    numbers = (run.summary or {}).get("separability", {})
    knn, trust = (numbers.get(f"{layout}/{name}") for name in ("knn", "trustworthiness"))
    if not isinstance(knn, float) or not isinstance(trust, float):
        return ""
    return f"{percent(knn)} of points lie among neighbors of their class; trustworthiness {trust:.3f} of 1"


def _rows(ids: Int64[np.ndarray, "n"], dataset: DatasetEntry | None) -> Int64[np.ndarray, "n"]:
    """Return where each image lies among the stored samples; -1 if it does not."""
    gallery = dataset.gallery if dataset else None
    if gallery is None:
        return np.full(len(ids), -1, dtype=np.int64)
    place = {int(sample_id): row for row, sample_id in enumerate(gallery.ids)}
    return np.array([place.get(int(sample_id), -1) for sample_id in ids], dtype=np.int64)


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
