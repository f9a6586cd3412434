"""Small runs for the demo's tests, written by what writes real ones; and what a page of them holds."""

import base64
import json
import re
from html import unescape

import numpy as np
from small_store import make_splits

from cvx.store.runs import RunWriter

EPOCHS = 4


def add_run(store, splits, model, seed=0, epochs=EPOCHS, done=True, film=True):
    """Record a run of made-up numbers: its maps are zero at first, and logits grow towards the labels."""
    name = f"20260101-00000{seed}-{splits.name}-{model}-{seed:04x}"
    config = {"dataset": splits.name, "model": model, "epochs": epochs, "lr": 0.1 / (seed + 1), "seed": seed}
    writer = RunWriter.create(store.root / "runs" / name, {"format": 1, "config": config})
    random = np.random.default_rng(seed)
    shown = splits.test.head(8)
    for epoch in range(epochs + 1):
        writer.log(10 * epoch, epoch, {"val/acc1": epoch / epochs, "val/loss": 2.0 - epoch / epochs})
        if film:
            maps = epoch * random.normal(size=(8, splits.in_chans, splits.image_size, splits.image_size))
            writer.film(epoch, shown.labels, _logits(shown.labels, splits, epoch, random), maps.astype(np.float32))
    if done:
        finish_run(writer, splits, epochs, random)
    return name


def finish_run(writer, splits, epochs, random):
    """Embed the test samples and write the summary."""
    test = splits.test
    logits = _logits(test.labels, splits, 2, random)
    layouts = {name: random.normal(size=(len(test), 2)).astype(np.float32) for name in ("pca", "tsne", "umap")}
    writer.embeddings("test", epochs, ids=test.ids, labels=test.labels, logits=logits, **layouts)
    accuracy = float((logits.argmax(1) == test.labels).mean())
    separability = {f"{name}/{which}": 0.5 for name in layouts for which in ("knn", "trustworthiness")}
    numbers = {"val/acc1": 1.0, "test/acc1": accuracy}
    writer.finish({"format": 1, "metrics": numbers, "best_epoch": epochs, "separability": separability, "time_s": 60.0})


def _logits(labels, splits, strength, random):
    return (
        strength * np.eye(splits.num_classes)[labels] + random.normal(size=(len(labels), splits.num_classes))
    ).astype(np.float32)


def add_runs(store):
    """Add two runs that ended for tiles, one of them the longer, and one of dots that goes on."""
    tiles, dots = make_splits("tiles", 40, 16, 3, True), make_splits("dots", 24, 8, 1, False)
    names = [add_run(store, tiles, "resnet10t", seed=0, epochs=2), add_run(store, tiles, "vit_tiny", seed=1)]
    return [*names, add_run(store, dots, "resnet10t", seed=2, done=False)]


def data_of(html):
    """Return what a page hands to its JavaScript."""
    return json.loads(unescape(re.search(r'data-json="([^"]*)"', html)[1]))


def numbers(packed, kind):
    """Return an array that a page hands to its JavaScript, packed."""
    return np.frombuffer(base64.b64decode(packed), kind)
