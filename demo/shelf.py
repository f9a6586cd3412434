"""The store as the page sees it: listed afresh when it changes, loaded models and seen results within bounds."""

import hashlib
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8

from cvx import comparison, measures
from cvx.checkpoint import Card
from cvx.comparison import ClassView, View
from cvx.data.image_file import read_header, read_image
from cvx.data.splits import Split
from cvx.distributed import pick_device
from cvx.measures import Agreement
from cvx.models import Classifier
from cvx.store import ModelEntry, Samples, Store, slug
from demo.answers import predictions
from demo.bounded import Bounded
from demo.limits import check_card, check_picture
from demo.turns import Turns

Kept = TypeVar("Kept")


@dataclass(frozen=True, eq=False)
class Shown:
    """One dataset with the models trained on it."""

    name: str
    title: str
    columns: dict[str, ModelEntry]
    """By the name under which the page offers it: best versions first, bare; others as `name:v3`."""
    classes: tuple[str, ...]
    samples: Samples | None
    trouble: str = ""
    """Why there are no samples."""

    @property
    def gallery(self) -> Split | None:
        """Return the images to choose from."""
        return None if self.samples is None else self.samples.split

    def subject(self, index: int) -> "Subject":
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
        source: dict[str, str | int] = {
            "samples_fingerprint": self.samples.fingerprint,
            "sample_index": index,
            "sample_id": int(gallery.ids[index]),
        }
        return Subject(key, image, caption, label, self.samples.classes, mask, source)


@dataclass(frozen=True, eq=False)
class Listing:
    """What the store held when it was read."""

    stamp: Hashable
    datasets: dict[str, Shown] = field(default_factory=dict)
    broken: tuple[ModelEntry, ...] = ()

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
class Subject:
    """An image that models are shown."""

    key: str
    """What no other image has."""
    image: UInt8[np.ndarray, "h w c"]
    caption: str
    label: int | None = None
    """Ground truth, where it is known, as an index into `classes`."""
    classes: tuple[str, ...] = ()
    mask: Bool[np.ndarray, "h w"] | None = None
    source: Mapping[str, str | int] = field(default_factory=dict)
    """What tells others which image it is."""

    @property
    def name(self) -> str:
        """Return the label in words; empty if it is not known."""
        return "" if self.label is None else self.classes[self.label]


class Shelf:
    """One store for all visitors; they compute in turn, one map or one view of a class at a time."""

    def __init__(self, root: Path, model_bytes: int = 2**31, result_bytes: int = 2**28):
        self.store = Store(root)
        self._device = pick_device("auto")
        self._models: Bounded[tuple[Classifier, Card]] = Bounded(model_bytes)
        self._results: Bounded[View | ClassView] = Bounded(result_bytes)
        self._answers: Bounded[Int64[np.ndarray, "n"]] = Bounded(result_bytes)
        self._uploads: Bounded[Subject] = Bounded(result_bytes)
        self._listing = Listing(stamp=None)
        self._looking, self._surveying, self._reading = Turns("looking"), Turns("surveying"), threading.Lock()

    @property
    def device(self) -> torch.device:
        """Return where models look."""
        return self._device

    def listing(self) -> Listing:
        """List the store; it is read again only if a file that names its content has changed."""
        with self._reading:  # not the lock of those that compute: a page opens while another visitor's waits
            stamp = self.stamp()
            if stamp != self._listing.stamp:
                self._listing = _read(self.store, stamp)
            return self._listing

    def stamp(self) -> Hashable:
        """Return what changes when a model or a set of samples is added, changed or removed."""
        root = self.store.root
        patterns = ("models/*", "models/*/aliases.json", "models/*/v*/card.json", "samples/*", "samples/*/v*")
        paths = [path for pattern in patterns for path in root.glob(pattern)]
        return tuple(sorted((str(path), _modified(path)) for path in paths))

    def upload(self, path: Path) -> Subject:
        """Decode an image of a visitor's own, once.

        Raises:
            ValueError: If it is no image, damaged or too large; the message says what to do.
        """

        def make() -> tuple[Subject, int]:
            check_picture(*read_header(path, "the upload")[:2])
            image = read_image(path, "the upload")
            height, width = image.shape[:2]
            cut = "" if height == width else ", its center square"
            name = hashlib.sha256(path.read_bytes()).hexdigest()
            caption = f"your image, {width} × {height} pixels{cut}"
            return Subject(name, image, caption, source={"file_sha256": name}), image.nbytes

        return self._kept(self._uploads, (str(path), _modified(path)), make)

    def look(self, entry: ModelEntry, subject: Subject, target: str, score: str, method: str) -> View:
        """Show one stored model one image.

        Raises:
            ValueError: If the model is damaged or cannot be asked this; the message says so.
            OSError: If its files cannot be read.
        """
        key = ("look", _card(entry).sha256, subject.key, target, score, method)

        def make() -> tuple[View, int]:
            classifier, card = self._load(entry)
            labels = None if subject.label is None else np.array([subject.label], dtype=np.int64)
            asked = (target, labels, subject.classes or None, score, method)
            view = comparison.look(entry.reference, classifier, card, subject.image[None], *asked)
            return view, view.attribution.nbytes + view.images.nbytes

        found = self._kept(self._results, key, make)
        assert isinstance(found, View)
        return found

    def class_view(
        self,
        entry: ModelEntry,
        samples: Samples,
        class_name: str,
        num: int,
        reduction: str,
        score: str,
        method: str,
    ) -> ClassView:
        """Sum up what one stored model draws on for a class, over the first `num` samples of it.

        Raises:
            ValueError: If the model is damaged or knows no such class, or no sample is of it.
        """
        card = _card(entry)
        key = ("class", card.sha256, str(samples.folder), class_name, num, reduction, score, method)

        def make() -> tuple[ClassView, int]:
            classifier, card = self._load(entry)
            index = comparison.class_index(card, class_name)
            split = samples.split if samples.classes == card.classes else _relabel(samples, card)
            view = comparison.class_view(
                entry.reference, classifier, card, split, index, num, 8, reduction, score, method
            )
            return view, view.images.nbytes + view.maps.nbytes + view.mean_map.nbytes

        found = self._kept(self._results, key, make)
        assert isinstance(found, ClassView)
        return found

    def classify(self, entry: ModelEntry, samples: Samples) -> Int64[np.ndarray, "n"]:
        """Predict all samples, in the samples' own numbering of classes; -1 is a class they do not have.

        Raises:
            ValueError: If the model is damaged; the message says so.
            OSError: If its files cannot be read.
        """

        def make() -> tuple[Int64[np.ndarray, "n"], int]:
            preds = predictions(self.store, _card(entry), samples, lambda: self._load(entry)[0])
            return preds, preds.nbytes

        return self._kept(self._answers, (_card(entry).sha256, str(samples.folder)), make)

    def agreement(self, references: Sequence[str], num: int, names: Sequence[str] | None = None) -> Agreement:
        """Say how alike models look at `num` samples.

        Raises:
            ValueError: If a model or measure does not exist or the models cannot be compared.
        """
        options, how = measures.Options(num=num), measures.How(device=self._device)
        return self._surveying.do(lambda: measures.agreement(self.store, references, options, names, how))

    def _kept(self, cache: Bounded[Kept], key: Hashable, make: Callable[[], tuple[Kept, int]]) -> Kept:
        """Return at once what was made before; make it when it is this visitor's turn, if they are still there."""
        kept = cache.find(key)
        return self._looking.do(lambda: cache.get(key, make)) if kept is None else kept

    def _load(self, entry: ModelEntry) -> tuple[Classifier, Card]:
        def make() -> tuple[tuple[Classifier, Card], int]:
            check_card(_card(entry))
            classifier, card = entry.load()
            tensors = classifier.state_dict().values()
            return (classifier.to(self._device), card), sum(t.numel() * t.element_size() for t in tensors)

        return self._models.get(_card(entry).sha256, make)


def _card(entry: ModelEntry) -> Card:
    if entry.card is None:
        raise ValueError(entry.error)
    return entry.card


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _read(store: Store, stamp: Hashable) -> Listing:
    entries = store.models()
    best = {entry.reference for entry in store.best()}
    names = sorted({entry.card.dataset for entry in entries if entry.card})
    datasets = {}
    for name in names:
        own = [entry for entry in entries if entry.card and entry.card.dataset == name]
        datasets[name] = _shown(store, name, own, best)
    return Listing(stamp, datasets, tuple(entry for entry in entries if entry.card is None))


def _shown(store: Store, name: str, entries: Sequence[ModelEntry], best: set[str]) -> Shown:
    first = [entry for entry in entries if entry.reference in best]
    others = [entry for entry in entries if entry.reference not in best]
    columns = {_column(entry, name): entry for entry in first}
    columns |= {f"{_column(entry, name)}:v{entry.version}": entry for entry in others}
    samples, trouble = _samples(store, name, [*first, *others])
    title = str(samples.info.get("title") or name) if samples else name
    cards = [_card(entry) for entry in (*first, *others)]
    return Shown(name, title, columns, samples.classes if samples else cards[0].classes, samples, trouble)


def _column(entry: ModelEntry, dataset: str) -> str:
    """Shorten `digits-resnet18` to `resnet18`; a name of the user's own stays."""
    return entry.name.removeprefix(f"{slug(dataset)}-") or entry.name


def _samples(store: Store, dataset: str, entries: Sequence[ModelEntry]) -> tuple[Samples | None, str]:
    """Open the samples that the dataset's models were trained beside; the first that can be read."""
    trouble = ""
    for fingerprint in dict.fromkeys(_card(entry).samples for entry in entries if _card(entry).samples):
        try:
            samples = store.samples(dataset, fingerprint)
            if len(samples.split):
                return samples, ""
        except (ValueError, OSError) as error:
            trouble = str(error)
    return None, trouble or f"no model of {dataset} came with samples"


def _relabel(samples: Samples, card: Card) -> Split:
    """Write the samples' labels in a model's own numbering; classes that it does not know become -1."""
    index = np.array([card.classes.index(n) if n in card.classes else -1 for n in samples.classes], dtype=np.int64)
    split = samples.split
    return Split(split.images, index[split.labels], split.ids, split.masks)
