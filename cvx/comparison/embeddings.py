"""Class separation in 2-D embeddings of the test logits, and the likeness of two models' embeddings."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from cvx.comparison.request import Models, entries_of
from cvx.metrics.embedding import METHODS, align, cka, likeness, separability
from cvx.store import ModelEntry, Store
from cvx.store.npz import read_frame
from cvx.store.runs import Run

LAYOUT_NOTE = (
    "Silhouette and kNN are of a layout, not of the model. t-SNE and UMAP keep neighborhoods: the distance between far"
    " clusters, their sizes and the space between them mean little; trustworthiness says how far to trust them."
)


@dataclass(frozen=True, eq=False)
class Layout:
    """One model's test logits, and where each method puts them in the plane."""

    reference: str
    dataset: str
    ids: Int64[np.ndarray, "n"]
    labels: Int64[np.ndarray, "n"]
    logits: Float32[np.ndarray, "n k"]
    points: Mapping[str, Float32[np.ndarray, "n 2"]]

    def compares_with(self, other: "Layout") -> bool:
        """Tell whether both are of the same images."""
        return self.dataset == other.dataset and np.array_equal(self.ids, other.ids)

    def onto(self, other: "Layout") -> "Layout":
        """Turn, mirror, scale and move every layout onto another model's, so that they can be compared by eye."""
        points = {name: align(xy, other.points[name]) for name, xy in self.points.items()}
        return Layout(self.reference, self.dataset, self.ids, self.labels, self.logits, points)


def layouts(store: Store, models: Models) -> list[Layout]:
    """Read the layouts of models' test logits, each aligned with the first one of the same images.

    They are of the weights that were best on validation, whichever version of a run is named.

    Raises:
        ValueError: If a reference does not exist, or its run or the run's embeddings are not in the store.
    """
    found: list[Layout] = []
    for entry in entries_of(store, models):
        own = _layout(store, entry)
        first = next((one for one in found if one.compares_with(own)), own)
        found.append(own if first is own else own.onto(first))
    return found


def embeddings(store: Store, models: Models) -> list[dict[str, Any]]:
    """Return how well each layout of the test logits separates the classes: a row per model and layout.

    Raises:
        ValueError: As `layouts`.
    """
    return [
        {"model": entry.reference, "layout": name, **judged(frame, name)}
        for entry in entries_of(store, models)
        for frame in [_final(store, entry)]
        for name in METHODS
    ]


def alignment(store: Store, models: Models) -> list[dict[str, Any]]:
    """Return how alike two models arrange the same images: a row per pair; none for models of different images.

    `cka` is of the logits themselves; the others are of layouts, after one is aligned with the other.

    Raises:
        ValueError: As `layouts`.
    """
    return [
        {
            "first": one.reference,
            "second": other.reference,
            "cka": cka(one.logits, other.logits),
            **{name: likeness(one.points[name], other.points[name]) for name in METHODS},
        }
        for one, other in itertools.combinations(layouts(store, models), 2)
        if one.compares_with(other)
    ]


def run_of(store: Store, entry: ModelEntry) -> Run:
    """Return the run that trained a model.

    Raises:
        ValueError: If the model is damaged or its run is not in the store.
    """
    if entry.card is None:
        raise ValueError(entry.error)
    run = store.run(entry.card.run)
    if not entry.card.run or not run.exists:
        raise ValueError(
            f"what {entry.reference} recorded while it trained is not in {store.root}: its run"
            f" {entry.card.run or '(none: it was imported)'} is not there"
        )
    return run


def judged(frame: Mapping[str, np.ndarray], layout: str) -> dict[str, float]:
    """Return how well one layout of a frame separates the classes, and how true it is to the logits."""
    return separability(frame["logits"], frame[layout], frame["labels"])


def final_frame(store: Store, entry: ModelEntry) -> Path:
    """Return the file with the test logits of a model's run and their layouts.

    Raises:
        ValueError: If the model is damaged, its run is not in the store or did not end.
    """
    path = run_of(store, entry).final_embeddings
    if not path.is_file():
        raise ValueError(f"the run of {entry.reference} has no embeddings of the test images: it did not end")
    return path


def _final(store: Store, entry: ModelEntry) -> dict[str, np.ndarray]:
    return read_frame(final_frame(store, entry), ("ids", "labels", "logits", *METHODS))


def _layout(store: Store, entry: ModelEntry) -> Layout:
    frame = _final(store, entry)
    assert entry.card is not None
    points = {name: frame[name] for name in METHODS}
    return Layout(entry.reference, entry.card.dataset, frame["ids"], frame["labels"], frame["logits"], points)
