"""A store of small models and images whose maps are drawn."""

import numpy as np
import torch

from cvx import models
from cvx.data.dataset_types import Info, Split, Splits
from cvx.store.checkpoint import describe
from cvx.store.store import collection

NAMES = ("cat", "a/b: c", "A-B-c", "owl")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def splits_of(name="pets", num=12, size=8, classes=NAMES, masks=False):
    labels = np.arange(num) % len(classes)
    covered = np.zeros((num, size, size), bool)
    covered[:, :4] = True
    split = Split(noise(num, size, size, 3), labels, np.arange(100, 100 + num), covered if masks else None)
    info = Info("Pets", "public domain", "none", flip=True)
    return Splits(name, split, split, split, classes, (0.5,) * 3, (0.25,) * 3, f"f{size}", info)


def add(store, splits, model="net", seed=0, change=None):
    """Store an untrained model with the samples it belongs to."""
    torch.manual_seed(seed)
    size, num_classes = splits.image_size, splits.num_classes
    classifier = models.build("resnet10t", num_classes, size, 3, mean=splits.mean, std=splits.std).eval()
    if change is not None:
        with torch.no_grad():
            change(classifier)
    store.add_samples(splits)
    card = describe(classifier, splits, name=collection(splits.name, model), dataset=splits.name, model=model)
    return store.add_model(classifier, card)
