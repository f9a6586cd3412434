"""What is asked, of which models, about which images; and answers kept between calls."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvx.attribution.options import TARGETS, check_choices
from cvx.data.splits import Split
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
    """One stored model and the images it is asked about."""

    entry: ModelEntry
    card: Card
    images: ImageSet

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
        return self.images.fit(self.entry.load()[0].to(device))

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


def resolve_models(
    store: Store, references: Sequence[str], options: Options, data_root: Path | None = None
) -> list[ResolvedModel]:
    """Find models and their images; a model named twice is asked once. Models of one source share its images.

    Raises:
        ValueError: If there is none, a model is damaged, its images cannot be had, or it lacks a class of the labels
            whose score is to be explained.
    """
    entries = {(entry := store.resolve(reference)).reference: entry for reference in references}
    if not entries:
        raise ValueError("name at least one model")
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
        found.append(ResolvedModel(entry, card, images[key]))
    return found
