"""Compute the endpoints' answers as plain data."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from cvx.attribution import to_heatmap
from cvx.attribution.options import unit
from cvx.data.dataset_types import NUM_GALLERY
from cvx.maps.explanation import top_classes
from cvx.plotting.colors import colorize, data_uri, gray_or_rgb, overlay
from cvx.store import ModelEntry
from demo.backend import map_rows
from demo.backend.catalog import Catalog, QueryImage
from demo.backend.map_rows import Cell
from demo.backend.service import ModelService
from demo.components.image_picker import filters
from demo.state.selection import Choice, Pick

if TYPE_CHECKING:
    from demo.api.schema import (
        AgreementAnswer,
        Comparison,
        ModelAnswer,
        Sample,
        StoreContents,
        StoredModel,
        StoredSamples,
    )


def list_store(catalog: Catalog) -> "StoreContents":
    """List models and samples."""
    entries = [entry for dataset_entry in catalog.datasets.values() for entry in dataset_entry.columns.values()]
    models = [_stored(entry) for entry in (*entries, *catalog.broken)]
    samples: list[StoredSamples] = [
        {"dataset": dataset_entry.name, "num": len(dataset_entry.gallery), "classes": list(dataset_entry.classes)}
        for dataset_entry in catalog.datasets.values()
        if dataset_entry.gallery is not None
    ]
    return {"models": models, "samples": samples, "sets": list(catalog.sets)}


def _stored(entry: ModelEntry) -> "StoredModel":
    card = entry.card
    return {
        "reference": entry.reference,
        "aliases": list(entry.aliases),
        "dataset": card.dataset if card else "",
        "model": card.model if card else "",
        "classes": list(card.classes) if card else [],
        "image_size": card.image_size if card else 0,
        "num_params": card.num_params if card else 0,
        "metrics": {name: float(value) for name, value in card.metrics.items()} if card else {},
        "error": entry.error,
    }


def samples(catalog: Catalog, dataset: str, class_name: str, first: int, num: int) -> "list[Sample]":
    """List some of a dataset's images.

    Raises:
        ValueError: If there is no such dataset or class, or more than 100 are asked for.
    """
    dataset_entry = catalog.named(dataset)
    if dataset_entry is None or dataset_entry.gallery is None:
        known = [name for name, one in catalog.datasets.items() if one.gallery is not None] + list(catalog.sets)
        raise ValueError(f"no samples of {dataset!r}; datasets with samples: {', '.join(known) or 'none'}")
    if class_name and class_name not in dataset_entry.classes:
        raise ValueError(f"{dataset} has no class {class_name!r}; known: {', '.join(dataset_entry.classes)}")
    if first < 0 or not 1 <= num <= 100:
        raise ValueError(f"first must be at least 0 and num in 1…100, got {first} and {num}")
    images, labels = dataset_entry.gallery.images, dataset_entry.gallery.labels
    rows = filters.rows_of(dataset_entry, Pick(shown=class_name))[first : first + num]
    return [
        {
            "sample": f"{dataset}:{row}",
            "label": dataset_entry.classes[int(labels[row])],
            "image_png": data_uri(gray_or_rgb(np.array(images[row]))),
        }
        for row in rows
    ]


def compare(
    service: ModelService, models: Sequence[str], sample: str, image: Path | None, target: str, choice: Choice
) -> "Comparison":
    """Ask every model about one image.

    Raises:
        ValueError: If a model or sample does not exist, or the image cannot be read.
    """
    if not models:
        raise ValueError("name at least one model; /models lists them")
    if bool(sample) == (image is not None):
        raise ValueError("give either a sample (DATASET:INDEX) or an image, and not both")
    entries = [service.store.resolve(reference) for reference in models]
    query = service.upload(image) if image is not None else _sample(service.catalog(), sample)
    cells = [map_rows.explain_cell(service, entry.reference, entry, query, target, choice) for entry in entries]
    answers = [_answer(cell, choice) for cell in map_rows.scale(cells, choice)]
    return {"image": query.caption, "label": query.name, "answers": answers}


def agreement(
    service: ModelService, models: Sequence[str], num: int, measure: str, samples: str = ""
) -> "list[AgreementAnswer]":
    """Measure the agreement of models' maps.

    Raises:
        ValueError: If a model or measure does not exist, the models cannot be compared, or num is out of range.
    """
    if not 1 <= num <= NUM_GALLERY:
        raise ValueError(f"num must be in 1…{NUM_GALLERY}, got {num}")
    found = service.agreement(models, num, [measure] if measure else None, samples)
    return [cast("AgreementAnswer", {key: _or_null(value) for key, value in row.items()}) for row in found.rows()]


def _or_null(value: object) -> object:
    """JSON has no nan."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _sample(catalog: Catalog, sample: str) -> QueryImage:
    dataset, _, index = sample.rpartition(":")
    dataset_entry = catalog.named(dataset)
    if dataset_entry is None or not index.isdecimal():
        known = ", ".join([*catalog.datasets, *catalog.sets]) or "none"
        raise ValueError(f"a sample is DATASET:INDEX, got {sample!r}; datasets: {known}")
    return dataset_entry.sample(int(index))


def _answer(cell: Cell, choice: Choice) -> "ModelAnswer":
    explanation, scaled, signed = cell.explanation, cell.scaled, choice.reduction == "signed"
    if explanation is None or scaled is None:
        return {**_EMPTY, "model": cell.column, "error": cell.error}
    target = int(explanation.targets[0])
    colors = colorize(scaled.values, signed)
    over = overlay(explanation.images[0], scaled.values, signed, choice.opacity / 100)
    return {
        "model": cell.column,
        "predictions": [{"class_name": name, "probability": prob} for name, prob in top_classes(explanation, 0)],
        "target": explanation.card.classes[target],
        "target_logit": float(explanation.logits[0, target]),
        "target_probability": float(explanation.probs[0, target]),
        "heatmap": to_heatmap(explanation.attribution, choice.reduction)[0].tolist(),
        "unit": unit(explanation.score, explanation.method),
        "limit": float(scaled.limit),
        "clipped": float(scaled.clipped),
        "norm": map_rows.norm(explanation),
        "image_png": data_uri(gray_or_rgb(explanation.images[0])),
        "map_png": data_uri(colors),
        "overlay_png": data_uri(over),
        "error": "",
    }


_EMPTY: "ModelAnswer" = {
    "model": "",
    "predictions": [],
    "target": "",
    "target_logit": 0.0,
    "target_probability": 0.0,
    "heatmap": [],
    "unit": "",
    "limit": 0.0,
    "clipped": 0.0,
    "norm": 0.0,
    "image_png": "",
    "map_png": "",
    "overlay_png": "",
    "error": "",
}
