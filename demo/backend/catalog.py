"""List a store as the page offers it: datasets, their models as columns, and images to explain."""

import contextlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from cvx.data.dataset_types import Split
from cvx.store import ModelEntry, Store
from cvx.store.checkpoint import Card
from cvx.store.store import Samples, slug


@dataclass(frozen=True, eq=False)
class DatasetEntry:
    """One dataset with the models trained on it."""

    name: str
    title: str
    columns: dict[str, ModelEntry]
    """By the name under which the page offers it: best versions first, bare; others as `name:v3`."""
    classes: tuple[str, ...]
    samples: Samples | None
    trouble: str = ""
    """Why there are no samples."""
    samples_name: str = ""
    """`NAME:vK` of samples that were chosen by name; empty for those that the models were trained beside."""

    @property
    def gallery(self) -> Split | None:
        """Return the images to choose from."""
        return None if self.samples is None else self.samples.split

    def about(self, samples: Samples) -> "DatasetEntry":
        """Return the same models, asked about other samples."""
        return replace(self, samples=samples, classes=samples.classes, trouble="", samples_name=samples.reference)

    def sample(self, index: int) -> "QueryImage":
        """Return a sample by its place in the gallery.

        Raises:
            ValueError: If there is no such sample; the message says what there is.
        """
        gallery = self.gallery
        if gallery is None or self.samples is None:
            raise ValueError(f"no samples to choose from: {self.trouble}; upload an image instead")
        if not 0 <= index < len(gallery):
            raise ValueError(f"{self.name} has the samples 0…{len(gallery) - 1}, got {index}")
        image, label = np.array(gallery.images[index]), int(gallery.labels[index])
        mask = None if gallery.masks is None else np.array(gallery.masks[index])
        key, caption = f"{self.samples.folder}:{index}", f"test sample {index + 1} of {len(gallery)}"
        caption += f" of {self.samples_name}" if self.samples_name else ""
        source: dict[str, str | int] = {
            "samples_fingerprint": self.samples.fingerprint,
            "sample_index": index,
            "sample_id": int(gallery.ids[index]),
        }
        return QueryImage(key, image, caption, label, self.samples.classes, mask, source)


@dataclass(frozen=True, eq=False)
class Catalog:
    """The store's content when it was read."""

    stamp: Hashable
    datasets: dict[str, DatasetEntry] = field(default_factory=dict)
    broken: tuple[ModelEntry, ...] = ()
    sets: dict[str, Samples] = field(default_factory=dict)
    """All samples of the store by `NAME:vK`, the newest of each name first."""

    def rows(self, datasets: Sequence[str], samples: str = "") -> list[DatasetEntry]:
        """List datasets with their models, asked about their own samples or about those of this name."""
        shown = [self.datasets[name] for name in datasets if name in self.datasets]
        return [entry.about(self.sets[samples]) for entry in shown] if samples in self.sets else shown

    def named(self, name: str) -> DatasetEntry | None:
        """Return a dataset's own samples, or a set of samples by `NAME` or `NAME:vK`; None if there is neither."""
        if name in self.datasets:
            return self.datasets[name]
        found = next((one for key, one in self.sets.items() if name and name in (key, key.rpartition(":")[0])), None)
        if found is None:
            return None
        return DatasetEntry(found.reference, found.reference, {}, found.classes, found, samples_name=found.reference)

    @property
    def best(self) -> list[str]:
        """List the columns of best versions, each once."""
        names = [name for shown in self.datasets.values() for name in shown.columns if ":" not in name]
        return list(dict.fromkeys(names))

    @property
    def columns(self) -> list[str]:
        """List every column once: the best versions, then all others."""
        names = [name for shown in self.datasets.values() for name in shown.columns]
        return list(dict.fromkeys([*self.best, *sorted(names)]))


@dataclass(frozen=True, eq=False)
class QueryImage:
    """An image whose classification is explained."""

    key: str
    """Unique to the image."""
    image: UInt8[np.ndarray, "h w c"]
    caption: str
    label: int | None = None
    """Ground truth, where it is known, as an index into `classes`."""
    classes: tuple[str, ...] = ()
    mask: Bool[np.ndarray, "h w"] | None = None
    source: Mapping[str, str | int] = field(default_factory=dict)
    """Identifies the image in saved files."""

    @property
    def name(self) -> str:
        """Return the label in words; empty if it is not known."""
        return "" if self.label is None else self.classes[self.label]


def stamp_of(root: Path) -> Hashable:
    """Return what changes when a model or a set of samples is added, changed or removed."""
    patterns = ("models/*", "models/*/aliases.json", "models/*/v*/card.json", "samples/*", "samples/*/v*")
    paths = [path for pattern in patterns for path in root.glob(pattern)]
    return tuple(sorted((str(path), modified(path)) for path in paths))


def modified(path: Path) -> int:
    """Return when a file was changed; 0 if it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def read_catalog(store: Store, stamp: Hashable) -> Catalog:
    """Read the whole store."""
    entries = store.models()
    best = {entry.reference for entry in store.best()}
    names = sorted({entry.card.dataset for entry in entries if entry.card})
    datasets = {}
    for name in names:
        own = [entry for entry in entries if entry.card and entry.card.dataset == name]
        datasets[name] = _read_dataset(store, name, own, best)
    return Catalog(stamp, datasets, tuple(entry for entry in entries if entry.card is None), _sets(store))


def _sets(store: Store) -> dict[str, Samples]:
    """Open all samples that can be read and hold an image."""
    found = {}
    for name in store.sample_sets():
        with contextlib.suppress(ValueError, OSError):
            if len((samples := store.find_samples(name)).split):
                found[name] = samples
    return found


def _read_dataset(store: Store, name: str, entries: Sequence[ModelEntry], best: set[str]) -> DatasetEntry:
    first = [entry for entry in entries if entry.reference in best]
    others = [entry for entry in entries if entry.reference not in best]
    columns = {_column(entry, name): entry for entry in first}
    columns |= {f"{_column(entry, name)}:v{entry.version}": entry for entry in others}
    samples, trouble = _samples(store, name, [*first, *others])
    title = str(samples.info.get("title") or name) if samples else name
    cards = [card_of(entry) for entry in (*first, *others)]
    return DatasetEntry(name, title, columns, samples.classes if samples else cards[0].classes, samples, trouble)


def _column(entry: ModelEntry, dataset: str) -> str:
    """Shorten `digits-resnet18` to `resnet18`; a name of the user's own stays."""
    return entry.name.removeprefix(f"{slug(dataset)}-") or entry.name


def _samples(store: Store, dataset: str, entries: Sequence[ModelEntry]) -> tuple[Samples | None, str]:
    """Open the samples that the dataset's models were trained beside; the first that can be read."""
    trouble = ""
    for card in {(card.source, card.samples): card for entry in entries if (card := card_of(entry)).samples}.values():
        try:
            samples = store.samples_of(card)
            if len(samples.split):
                return samples, ""
        except (ValueError, OSError) as error:
            trouble = str(error)
    return None, trouble or f"no model of {dataset} came with samples"


def card_of(entry: ModelEntry) -> Card:
    """Return the card of a stored model.

    Raises:
        ValueError: If it is damaged; the message says how.
    """
    if entry.card is None:
        raise ValueError(entry.error)
    return entry.card
