"""Answer all visitors from one store: its catalog, explanations and predictions, with bounded caches."""

import hashlib
import threading
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int64

from cvx import comparison
from cvx.comparison import Agreement
from cvx.data import transforms
from cvx.data.dataset_types import Split
from cvx.data.image_file import read_header, read_image
from cvx.distributed import pick_device
from cvx.maps import class_summary, explanation
from cvx.maps.class_summary import ClassSummary
from cvx.maps.explanation import Explanation
from cvx.models import Classifier
from cvx.store import ModelEntry, Store
from cvx.store.checkpoint import Card
from cvx.store.store import Samples
from demo.backend.catalog import Catalog, QueryImage, card_of, modified, read_catalog, stamp_of
from demo.backend.lru_cache import LRUCache
from demo.backend.predictions import predictions
from demo.serving.rate_limit import check_card, check_picture
from demo.serving.worker import SerialWorker

Kept = TypeVar("Kept")


class ModelService:
    """One store for all visitors; they compute in turn, one map or one class summary at a time.

    A request of many images folds its model for itself and keeps no copy, so `model_bytes` counts all weights that
    stay in memory between requests.
    """

    def __init__(self, root: Path, model_bytes: int = 2**31, result_bytes: int = 2**28):
        self.store = Store(root)
        self._device = pick_device("auto")
        self._models: LRUCache[tuple[Classifier, Card]] = LRUCache(model_bytes)
        self._results: LRUCache[Explanation | ClassSummary] = LRUCache(result_bytes)
        self._predictions: LRUCache[Int64[np.ndarray, "n"]] = LRUCache(result_bytes)
        self._uploads: LRUCache[QueryImage] = LRUCache(result_bytes)
        self._catalog = Catalog(stamp=None)
        self._map_worker = SerialWorker("maps")
        self._agreement_worker = SerialWorker("agreement")
        self._read_lock = threading.Lock()

    @property
    def device(self) -> torch.device:
        """Return the device on which models compute."""
        return self._device

    def catalog(self) -> Catalog:
        """List the store; it is read again only if a file that names its content has changed."""
        with self._read_lock:  # not the lock of those that compute: a page opens while another visitor's waits
            stamp = self.stamp()
            if stamp != self._catalog.stamp:
                self._catalog = read_catalog(self.store, stamp)
            return self._catalog

    def stamp(self) -> Hashable:
        """Return what changes when a model or a set of samples is added, changed or removed."""
        return stamp_of(self.store.root)

    def upload(self, path: Path) -> QueryImage:
        """Decode an image of a visitor's own, once.

        Raises:
            ValueError: If it is no image, damaged or too large; the message says what to do.
        """

        def make() -> tuple[QueryImage, int]:
            check_picture(*read_header(path, "the upload")[:2])
            image = read_image(path, "the upload")
            height, width = image.shape[:2]
            cut = "" if height == width else ", its center square"
            name = hashlib.sha256(path.read_bytes()).hexdigest()
            caption = f"your image, {width} × {height} pixels{cut}"
            return QueryImage(name, image, caption, source={"file_sha256": name}), image.nbytes

        return self._kept(self._uploads, (str(path), modified(path)), make)

    def explain(self, entry: ModelEntry, query: QueryImage, target: str, score: str, method: str) -> Explanation:
        """Explain one stored model's answer to one image.

        Raises:
            ValueError: If the model is damaged or cannot be asked this; the message says so.
            OSError: If its files cannot be read.
        """
        key = ("explanation", card_of(entry).sha256, query.key, target, score, method)

        def make() -> tuple[Explanation, int]:
            classifier, card = self._load(entry)
            labels = None if query.label is None else np.array([query.label], dtype=np.int64)
            asked = (target, labels, query.classes or None, score, method)
            image = query.image[None]
            if "file_sha256" in query.source:  # a photograph has more pixels of its own than anyone wants to see
                image = transforms.fit(image, card.image_size, card.in_chans)
            explained = explanation.explain_images(entry.reference, classifier, card, image, *asked)
            return explained, explained.attribution.nbytes + explained.images.nbytes

        found = self._kept(self._results, key, make)
        assert isinstance(found, Explanation)
        return found

    def summarize_class(
        self,
        entry: ModelEntry,
        samples: Samples,
        class_name: str,
        num: int,
        reduction: str,
        score: str,
        method: str,
    ) -> ClassSummary:
        """Summarize a stored model's maps of one class, over the first `num` samples of it.

        Raises:
            ValueError: If the model is damaged or knows no such class, or no sample is of it.
        """
        card = card_of(entry)
        key = ("summary", card.sha256, str(samples.folder), class_name, num, reduction, score, method)

        def make() -> tuple[ClassSummary, int]:
            classifier, card = self._load(entry)
            index = explanation.class_index(card, class_name)
            split = samples.split if samples.classes == card.classes else _relabel(samples, card)
            summary = class_summary.explain_class(
                entry.reference, classifier, card, split, index, num, 8, reduction, score, method
            )
            return summary, summary.images.nbytes + summary.maps.nbytes + summary.mean_map.nbytes

        found = self._kept(self._results, key, make)
        assert isinstance(found, ClassSummary)
        return found

    def classify(self, entry: ModelEntry, samples: Samples) -> Int64[np.ndarray, "n"]:
        """Predict all samples, in the samples' own numbering of classes; -1 is a class they do not have.

        Raises:
            ValueError: If the model is damaged; the message says so.
            OSError: If its files cannot be read.
        """

        def make() -> tuple[Int64[np.ndarray, "n"], int]:
            preds = predictions(self.store, card_of(entry), samples, lambda: self._load(entry)[0])
            return preds, preds.nbytes

        return self._kept(self._predictions, (card_of(entry).sha256, str(samples.folder)), make)

    def agreement(
        self, references: Sequence[str], num: int, names: Sequence[str] | None = None, samples: str = ""
    ) -> Agreement:
        """Measure the agreement of models' maps on `num` samples, their own or those of a name.

        Raises:
            ValueError: If a model or measure does not exist or the models cannot be compared.
        """
        options, runtime = comparison.Options(num=num, samples=samples), comparison.Runtime(device=self._device)
        return self._agreement_worker.do(lambda: comparison.agreement(self.store, references, options, runtime, names))

    def _kept(self, cache: LRUCache[Kept], key: Hashable, make: Callable[[], tuple[Kept, int]]) -> Kept:
        """Return a cached value at once; otherwise compute it in the worker, unless the visitor has left by then."""
        kept = cache.find(key)
        return self._map_worker.do(lambda: cache.get(key, make)) if kept is None else kept

    def _load(self, entry: ModelEntry) -> tuple[Classifier, Card]:
        def make() -> tuple[tuple[Classifier, Card], int]:
            check_card(card_of(entry))
            classifier, card = entry.load()
            tensors = classifier.state_dict().values()
            return (classifier.to(self._device), card), sum(t.numel() * t.element_size() for t in tensors)

        return self._models.get(card_of(entry).sha256, make)


def _relabel(samples: Samples, card: Card) -> Split:
    """Write the samples' labels in a model's own numbering; classes that it does not know become -1."""
    index, split = explanation.places(card.classes, samples.classes), samples.split
    return Split(split.images, index[split.labels], split.ids, split.masks)
