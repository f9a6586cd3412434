"""Select the samples of a strip: by class, and those on which the chosen models err or disagree."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Int64

from demo.backend.catalog import DatasetEntry
from demo.backend.service import ModelService
from demo.state.selection import Pick

Ask = Callable[[DatasetEntry], Int64[np.ndarray, "m n"]]
"""Returns what m models predict for all n samples."""


def ask_nobody(dataset: DatasetEntry) -> Int64[np.ndarray, "m n"]:
    """Stand in where no model is chosen."""
    return np.empty((0, len(dataset.gallery or ())), np.int64)


def asker(service: ModelService, columns: Sequence[str]) -> Ask:
    """Return what asks the chosen models; one that cannot answer is left out, as its cell says why."""

    def ask(dataset: DatasetEntry) -> Int64[np.ndarray, "m n"]:
        found = []
        for column in columns:
            entry = dataset.columns.get(column)
            try:
                if entry is not None and dataset.samples is not None:
                    found.append(service.classify(entry, dataset.samples))
            except (ValueError, OSError, RuntimeError):
                continue
        return np.stack(found) if found else ask_nobody(dataset)

    return ask


def rows_of(dataset: DatasetEntry, pick: Pick, ask: Ask = ask_nobody) -> Int64[np.ndarray, "n"]:
    """Return the gallery's rows that a pick lets through."""
    gallery = dataset.gallery
    if gallery is None:
        return np.empty(0, np.int64)
    kept = np.ones(len(gallery), bool)
    if pick.shown in dataset.classes:
        kept &= np.asarray(gallery.labels) == dataset.classes.index(pick.shown)
    if pick.which in ("wrong", "disagree"):
        kept &= _interesting(ask(dataset), np.asarray(gallery.labels), pick.which)
    return np.flatnonzero(kept).astype(np.int64)


def _interesting(preds: Int64[np.ndarray, "m n"], labels: Int64[np.ndarray, "n"], which: str) -> Bool[np.ndarray, "n"]:
    return (preds != (labels if which == "wrong" else preds[:1])).any(axis=0)
