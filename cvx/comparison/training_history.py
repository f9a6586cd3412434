"""Records of models' training: when their maps settle, and how their classes separate."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cvx.comparison.embeddings import judged, run_of
from cvx.comparison.map_convergence import MapConvergence, through_training
from cvx.comparison.request import Models, entries_of
from cvx.data.dataset_types import NUM_FILM
from cvx.metrics.bootstrap import interval
from cvx.store import ModelEntry, Store
from cvx.store.npz import read_frame
from cvx.store.runs import Run

SEPARABILITY = ("silhouette", "knn", "trustworthiness")


@dataclass(frozen=True, eq=False)
class TrainingHistory:
    """One model's run, epoch by epoch."""

    reference: str
    settling: MapConvergence
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
                "maps_like_previous": interval(told.to_previous["spearman"][frame]).mean,
                **{f"mask_{name}": interval(values[frame]).mean for name, values in told.on_mask.items()},
                **({"mask_chance": self.chance} if told.on_mask else {}),
                **self.separability[frame],
            }
            for frame, epoch in enumerate(told.epochs)
        ]


def training(store: Store, models: Models) -> list[TrainingHistory]:
    """Read the runs that trained these models.

    Raises:
        ValueError: If a reference does not exist, its run is not in the store or has no film, or a frame is damaged.
    """
    return [_history(store, entry) for entry in entries_of(store, models)]


def _history(store: Store, entry: ModelEntry) -> TrainingHistory:
    run, masks = filmed_run(store, entry), _film_masks(store, entry)
    settling = through_training(run, masks)
    assert settling is not None
    frames = run.frames("embeddings")
    unknown = dict.fromkeys(SEPARABILITY, float("nan"))
    spread = tuple(
        judged(read_frame(frames[e], ("logits", "labels", "pca")), "pca") if e in frames else unknown
        for e in settling.epochs
    )
    return TrainingHistory(entry.reference, settling, spread, float("nan") if masks is None else float(masks.mean()))


def filmed_run(store: Store, entry: ModelEntry) -> Run:
    """Return the run that trained a model, with a film whose frames can be compared.

    Raises:
        ValueError: If the model is damaged, its run is not in the store or has no film.
    """
    run = run_of(store, entry)
    if len(run.frames("film")) < 2:
        raise ValueError(f"run {run.name} of {entry.reference} has no film to compare: it needs two frames")
    return run


def _film_masks(store: Store, entry: ModelEntry) -> np.ndarray | None:
    assert entry.card is not None
    try:
        masks = store.samples_of(entry.card).split.masks
    except ValueError:
        return None
    return None if masks is None else np.asarray(masks[:NUM_FILM])
