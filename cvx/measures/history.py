"""What models' runs recorded while they trained: where the maps settle, how the classes come apart."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvx.data.splits import NUM_FILM
from cvx.embedding import METHODS, separability
from cvx.measures.film import Settling, through_training
from cvx.measures.interval import interval
from cvx.records import Run
from cvx.store import ModelEntry, Store

SEPARABILITY = ("silhouette", "knn", "trustworthiness")
LAYOUT_NOTE = (
    "Silhouette and kNN are of a layout, not of the model. t-SNE and UMAP keep neighborhoods: the distance between far"
    " clusters, their sizes and the space between them mean little; trustworthiness says how far to trust them."
)


@dataclass(frozen=True, eq=False)
class History:
    """One model's run, epoch by epoch."""

    reference: str
    settling: Settling
    """Of the maps of the film's images."""
    separability: tuple[dict[str, float], ...]
    """Of the logits of fixed validation images, as PCA lays them out, after each of `settling.epochs`; nan where
    the run has no frame."""
    chance: float
    """What maps that know nothing would have on the masks: the masks' share of the images; nan without masks."""

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per epoch, for programs."""
        told = self.settling
        return [
            {
                "model": self.reference,
                "epoch": epoch,
                "val/acc1": told.accuracy[frame],
                "maps_like_final": told.interval("spearman", frame).mean,
                **{f"mask_{name}": interval(values[frame]).mean for name, values in told.on_mask.items()},
                **({"mask_chance": self.chance} if told.on_mask else {}),
                **self.separability[frame],
            }
            for frame, epoch in enumerate(told.epochs)
        ]


def training(store: Store, references: Sequence[str]) -> list[History]:
    """Read the runs that trained these models.

    Raises:
        ValueError: If a reference does not exist, its run is not in the store or has no film, or a frame is damaged.
    """
    return [_history(store, entry) for entry in _entries(store, references)]


def _history(store: Store, entry: ModelEntry) -> History:
    run = _run(store, entry)
    masks = _film_masks(store, entry)
    settling = through_training(run, masks)
    if settling is None:
        raise ValueError(f"run {run.name} of {entry.reference} has no film to compare: it needs two frames")
    frames = run.frames("embeddings")
    unknown = dict.fromkeys(SEPARABILITY, float("nan"))
    spread = tuple(_separability(frames[e], "pca") if e in frames else unknown for e in settling.epochs)
    return History(entry.reference, settling, spread, float("nan") if masks is None else float(masks.mean()))


def embeddings(store: Store, references: Sequence[str]) -> list[dict[str, Any]]:
    """Return how well each layout of the test logits separates the classes: a row per model and layout.

    Raises:
        ValueError: If a reference does not exist, or its run or the run's embeddings are not in the store.
    """
    rows = []
    for entry in _entries(store, references):
        path = _run(store, entry).folder / "embeddings" / "test.npz"
        if not path.is_file():
            raise ValueError(f"the run of {entry.reference} has no embeddings of the test images: it did not end")
        rows += [{"model": entry.reference, "layout": one, **_separability(path, one)} for one in METHODS]
    return rows


def _entries(store: Store, references: Sequence[str]) -> list[ModelEntry]:
    """Find the models; one that is named twice comes once."""
    return list({(entry := store.resolve(reference)).reference: entry for reference in references}.values())


def _run(store: Store, entry: ModelEntry) -> Run:
    if entry.card is None:
        raise ValueError(entry.error)
    folder = store.root / "runs" / entry.card.run
    if not entry.card.run or not (folder / "config.json").is_file():
        raise ValueError(
            f"what {entry.reference} recorded while it trained is not in {store.root}: its run"
            f" {entry.card.run or '(none: it was imported)'} is not there"
        )
    return Run(folder)


def _film_masks(store: Store, entry: ModelEntry) -> np.ndarray | None:
    assert entry.card is not None
    try:
        masks = store.samples(entry.card.dataset, entry.card.samples).split.masks
    except ValueError:
        return None
    return None if masks is None else np.asarray(masks[:NUM_FILM])


def _separability(path: Path, layout: str) -> dict[str, float]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return separability(arrays["logits"], arrays[layout], arrays["labels"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({error}); train the model again") from None
