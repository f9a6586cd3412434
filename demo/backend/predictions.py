"""Predictions of a stored model for all samples of a dataset: from its run's records, or computed once and kept."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int64

from cvx.comparison.result_cache import load_cached, save_cached
from cvx.maps import explanation
from cvx.models import Classifier
from cvx.models.predict import logits_of
from cvx.store import Store
from cvx.store.checkpoint import Card
from cvx.store.npz import read_frame
from cvx.store.store import Samples

KIND = "predictions"
"""Where in the store's folder of results those lie that had to be asked for."""


def predictions(store: Store, card: Card, samples: Samples, load: Callable[[], Classifier]) -> Int64[np.ndarray, "n"]:
    """Predict every sample, in the samples' own numbering of classes; -1 is a class they do not have.

    Args:
        load: Reads the model, which is only needed where nothing has its answers yet.

    Raises:
        ValueError: If the model is damaged.
        OSError: If its files cannot be read.
    """
    own = explanation.places(samples.classes, card.classes)
    logits = _recorded(store, card, samples)
    return own[_kept(store, card, samples, load) if logits is None else logits.argmax(axis=1)]


def _recorded(store: Store, card: Card, samples: Samples) -> Float[np.ndarray, "n k"] | None:
    """Return the logits that the model's own run wrote down for these very samples at its end, if it did.

    Runs embed the logits of their best weights, in float32, as the demo would compute them.
    """
    run = store.run(card.run)
    path = run.final_embeddings
    if samples.fingerprint != card.samples and (not card.source or samples.source != card.source):
        return None
    if not card.run or card.role != "best" or not path.is_file():
        return None
    try:
        if run.config.get("config") != card.config or (run.summary or {}).get("metrics") != card.metrics:
            return None  # another run of the same name
        stored = read_frame(path, ("ids", "logits"))
        if np.array_equal(stored["ids"], samples.split.ids) and stored["logits"].shape[1] == len(card.classes):
            return np.asarray(stored["logits"], np.float32)
    except (ValueError, OSError, KeyError, IndexError):
        pass  # damaged records are no reason not to ask the model
    return None


def _kept(store: Store, card: Card, samples: Samples, load: Callable[[], Classifier]) -> Int64[np.ndarray, "n"]:
    facts = {"model": card.sha256, "images": samples.fingerprint, "num": len(samples.split)}
    found = load_cached(store, KIND, facts)
    if found is None or found.get("preds", np.empty(0)).shape != (len(samples.split),):
        preds = logits_of(load().of(*samples.split.images.shape[2:]), samples.split).argmax(axis=1)
        found = {"preds": preds.astype(np.int64)}
        save_cached(store, KIND, facts, found)
    return found["preds"].astype(np.int64)
