"""Cards and looks of made-up models, whose maps are known."""

import numpy as np

from cvx.maps.explanation import Explanation
from cvx.store.checkpoint import Card

NAMES = ("cat", "dog", "owl")


def card_of(classifier, classes=NAMES, image_size=16, in_chans=3, dataset="pets"):
    return Card(
        name=f"{dataset}-net",
        dataset=dataset,
        model="net",
        build=classifier.build_args if classifier else {},
        classes=classes,
        image_size=image_size,
        in_chans=in_chans,
        mean=(0.5,) * in_chans,
        std=(0.25,) * in_chans,
    )


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def view_of(attribution, logits=None, targets=None, classes=NAMES, size=None):
    n, c, h, w = attribution.shape
    logits = np.zeros((n, len(classes)), np.float32) if logits is None else np.asarray(logits, np.float32)
    targets = np.zeros(n, np.int64) if targets is None else targets
    card = card_of(None, classes, h, c)
    return Explanation(
        "a:v0", card, noise(n, h, w, c), logits, targets, attribution.astype(np.float32), "logit", "gradient"
    )


def maps(*parts):
    return np.stack([np.asarray(part, np.float32)[None] for part in parts])


def spot(size, *cells):
    one = np.zeros((size, size))
    for cell in cells:
        one[cell] = 1
    return one
