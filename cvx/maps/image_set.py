"""Choose the images to explain: a dataset's stored samples, or a split of what a model was trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvx import data
from cvx.data.dataset_types import Split
from cvx.maps.explanation import label_targets
from cvx.models import Classifier
from cvx.store import Store
from cvx.store.checkpoint import Card


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels, at their dataset's own size where it has one."""

    dataset: str
    split: Split
    classes: tuple[str, ...]
    fingerprint: str
    """Of these very pixels."""
    source: str = ""
    """Digest of their dataset's content, where it is known."""
    name: str = ""
    """`NAME:vK` of samples that were asked for by name; empty for a model's own images."""
    warnings: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """Return what is the same in every copy: by it and their ids, images are paired."""
        return self.source or self.fingerprint

    def fit(self, classifier: Classifier) -> Classifier:
        """Let a model take these images, whatever its own size and channels."""
        return classifier.of(*self.split.images.shape[2:])

    def check_labels(self, card: Card) -> None:
        """Refuse a model that does not know the classes of these images' labels.

        Raises:
            ValueError: If a class is missing; the message names it, and what can be asked all the same.
        """
        label_targets(card, np.asarray(self.split.labels), self.classes)


def images_of(
    store: Store, card: Card, split: str = "samples", samples: str = "", num: int = 0, data_root: Path | None = None
) -> ImageSet:
    """Find the images that a model is asked about.

    Args:
        split: `samples`, or a part of the dataset that the model was trained on.
        samples: `NAME` or `NAME:vK` of stored samples, of any dataset; empty takes the model's own.
        num: Images from the front; 0 takes all.

    Raises:
        ValueError: If they cannot be had, or samples were named for another split.
    """
    if samples and split != "samples":
        raise ValueError(f"samples={samples} and split={split} name two sets of images; leave one of them out")
    if split != "samples":
        return _part_of(card, split, num, data_root)
    found = store.find_samples(samples) if samples else store.samples_of(card)
    about = (found.classes, found.fingerprint, found.source, found.reference if samples else "")
    return ImageSet(found.dataset, _cut(found.split, num), *about)


def _part_of(card: Card, split: str, num: int, data_root: Path | None) -> ImageSet:
    if data_root is None:
        raise ValueError(f"the split {split!r} needs the dataset: name the data root, or take the samples")
    val_fraction = float(card.config.get("val_fraction", 0.1))
    splits = data.load(card.dataset, data_root, card.image_size, val_fraction, own_size=bool(card.source))
    same = card.source == splits.source if card.source else card.fingerprint in ("", splits.fingerprint)
    warnings = () if same else (f"{card.dataset} in {data_root} is not the data that {card.name} was trained on",)
    about = (splits.classes, splits.fingerprint, splits.source)
    return ImageSet(card.dataset, _cut(getattr(splits, split), num), *about, warnings=warnings)


def _cut(split: Split, num: int) -> Split:
    return split.head(num) if num else split
