"""Options of a comparison, and the models and images that a request resolves to."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvx.attribution.options import TARGETS, check_choices
from cvx.comparison.loaded_models import LoadedModels
from cvx.data.dataset_types import Split
from cvx.maps.explanation import PIXELS, ImageExplainer
from cvx.maps.image_set import ImageSet, images_of
from cvx.maps.request import Request
from cvx.models import Classifier
from cvx.store import ModelEntry, Store
from cvx.store.checkpoint import Card


@dataclass(frozen=True, kw_only=True)
class Options(Request):
    """What a comparison asks of every model."""

    target: str = "label"
    """The class whose score is explained: label, the same for all models, or pred, each model's own."""
    seed: int = 0
    """Of random maps, noise and untrained models."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, {"target": TARGETS})
        if self.num < 1:
            raise ValueError(f"num must be 1 image or more, got {self.num}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be between 0 and {2**31 - 1}, got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where the work is done and who watches it; nothing of this decides a result."""

    data_root: Path | None = None
    """Where datasets lie; the split `samples` needs none."""
    device: torch.device | str = "cpu"
    show_progress: bool = False
    """Show a bar on a terminal."""


HERE = Runtime()
"""On the CPU, without a dataset, in silence."""


@dataclass(frozen=True, eq=False)
class ResolvedModel:
    """One stored model and the images it is asked about.

    Measures that are given the same resolved models share their images, and their weights as `LoadedModels` keeps them.
    """

    entry: ModelEntry
    card: Card
    images: ImageSet
    options: Options
    """What it was resolved for."""
    loaded: LoadedModels

    @property
    def split(self) -> Split:
        """Return the images with their labels."""
        return self.images.split

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names that the labels index."""
        return self.images.classes

    @property
    def reference(self) -> str:
        """Return the name that always means this version."""
        return self.entry.reference

    def load(self, device: torch.device) -> Classifier:
        """Give back the model, ready to take the images."""
        return self.images.fit(self.loaded.load(self.entry, self.card, device))

    def serves(self, options: Options) -> bool:
        """Tell whether its images are, or begin with, those that other options ask for."""
        same = (self.options.split, self.options.samples) == (options.split, options.samples)
        return same and options.num <= self.options.num

    def narrowed(self, options: Options) -> "ResolvedModel":
        """Return the same model, asked about as many of its images as other options want.

        Raises:
            ValueError: If it lacks a class of the labels whose score is to be explained.
        """
        images = replace(self.images, split=self.images.split.head(options.num))
        if options.target == "label":
            images.check_labels(self.card)
        return replace(self, images=images, options=options)

    def explainer(self, device: torch.device, options: Options, times: int = 1) -> ImageExplainer:
        """Make what explains the images, each so many times; whoever asks for it closes it."""
        shape = self.split.images.shape[1:]
        request = (options.target, self.classes, options.score, options.method)
        num = times * len(self.split)
        return ImageExplainer(self.reference, self.load(device), self.card, shape, num, *request)

    def chunks(self) -> Iterator[slice]:
        """Go through the images in parts of nearly one size, none of a single image unless there is but one."""
        side = max(self.card.image_size, self.split.images.shape[1])
        num, size = len(self.split), max(2, PIXELS // side**2)
        bounds = np.linspace(0, num, -(-num // size) + 1).round().astype(int).tolist()
        return (slice(start, stop) for start, stop in itertools.pairwise(bounds))


Models = Sequence[str | ResolvedModel]
"""What a measure is asked about: references, or models that a command has resolved for all its measures."""


def resolve_models(
    store: Store,
    models: Models,
    options: Options,
    data_root: Path | None = None,
    loaded: LoadedModels | None = None,
) -> list[ResolvedModel]:
    """Find models and their images; a model named twice is asked once. Models of one source share its images.

    Args:
        models: Those that are resolved already are taken as they are if they have the images that are asked for.
        loaded: Where weights are kept that others share; None keeps them for these models alone.

    Raises:
        ValueError: If there is none, a model is damaged, its images cannot be had, or it lacks a class of the labels
            whose score is to be explained.
    """
    if not models:
        raise ValueError("name at least one model")
    ready = [one for one in models if isinstance(one, ResolvedModel) and one.serves(options)]
    if len(ready) == len(models):
        return [one.narrowed(options) for one in ready]
    entries = {(entry := store.resolve(name)).reference: entry for name in map(reference_of, models)}
    loaded = loaded or next((one.loaded for one in models if isinstance(one, ResolvedModel)), None) or LoadedModels()
    images: dict[tuple[Any, ...], ImageSet] = {}
    found = []
    for entry in entries.values():
        if entry.card is None:
            raise ValueError(entry.error)
        card = entry.card
        own = (card.source,) if card.source else (card.dataset, card.samples, card.image_size)
        key = (options.samples,) if options.samples else (*own, card.config.get("val_fraction"))
        if key not in images:
            images[key] = images_of(store, card, options.split, options.samples, options.num, data_root)
        if options.target == "label":
            images[key].check_labels(card)
        found.append(ResolvedModel(entry, card, images[key], options, loaded))
    return found


def share_models(
    store: Store,
    references: Sequence[str],
    options: Options,
    data_root: Path | None = None,
    loaded: LoadedModels | None = None,
) -> Models:
    """Resolve models for all measures of a command; where that fails, return the references: each measure says why."""
    try:
        return resolve_models(store, references, options, data_root, loaded)
    except (ValueError, OSError):
        return references


def reference_of(model: str | ResolvedModel) -> str:
    """Return the name of a model that may be resolved already."""
    return model if isinstance(model, str) else model.reference


def entries_of(store: Store, models: Models) -> list[ModelEntry]:
    """Find the models; one that is named twice comes once."""
    entries = [store.resolve(one) if isinstance(one, str) else one.entry for one in models]
    return list({entry.reference: entry for entry in entries}.values())
