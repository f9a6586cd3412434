"""What measures compare: the score that is asked for, noise of the image's own, and the class that came second."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from small_store import make_store

from cvx import comparison
from cvx.comparison import Options
from cvx.comparison.faithfulness import untrained
from cvx.metrics.control_maps import random_maps

PAIR = ("tiles-resnet10t", "tiles-vit_tiny")
NUM = 12
CLOSE = 0.01
"""Batches round otherwise than single images, and a gradient jumps where a ReLU's input passes zero."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"))


def differentiate(classifier, inputs, targets, score):
    """Return logits and maps by autograd alone, image by image."""
    logits, maps = [], []
    for image, target in zip(inputs, targets, strict=True):
        leaf = image[None].clone().requires_grad_()
        found = classifier(leaf)[0]
        value = found if score == "logit" else found - found.exp().sum().log()
        maps.append(torch.autograd.grad(value[int(target)], leaf)[0][0].numpy())
        logits.append(found.detach().numpy())
    return np.stack(logits), np.stack(maps)


def samples(store):
    split = store.samples("tiles").split.head(NUM)
    return torch.tensor(split.images).permute(0, 3, 1, 2) / 255, torch.tensor(split.labels), split.ids


def ranked(first, second, signed=False):
    """Correlate the ranks of two maps' magnitudes, or of their sums over channels, image by image."""
    flat = [[(one.sum(0) if signed else np.abs(one).max(0)).ravel() for one in maps] for maps in (first, second)]
    return [spearmanr(a, b).statistic for a, b in zip(*flat, strict=True)]


@pytest.mark.parametrize("score", ["logit", "logprob"])
def test_agreement_is_of_the_score_that_is_asked_for_and_its_floor_that_of_noise(store, score):
    found = comparison.agreement(store, PAIR, Options(num=NUM, score=score), names=["spearman", "spearman_signed"])
    inputs, labels, ids = samples(store)
    maps = [differentiate(store.resolve(one).load()[0], inputs, labels, score)[1] for one in PAIR]
    noise = random_maps(np.asarray(ids), maps[0].shape[1:])
    for name, signed in (("spearman", False), ("spearman_signed", True)):
        np.testing.assert_allclose(found.values[name][0, 1], ranked(*maps, signed), atol=CLOSE)
        for i, own in enumerate(maps):
            np.testing.assert_allclose(found.floors[name, "random"][i], ranked(own, noise, signed), atol=CLOSE)


@pytest.mark.parametrize("score", ["logit", "logprob"])
def test_class_sensitivity_is_between_the_class_and_the_most_probable_other(store, score):
    found = comparison.sanity(store, PAIR[:1], Options(num=NUM, score=score))
    inputs, labels, _ = samples(store)
    classifier = store.resolve(PAIR[0]).load()[0]
    logits, own = differentiate(classifier, inputs, labels, score)
    others = [[k for k in row.argsort()[::-1] if k != label] for row, label in zip(logits, labels, strict=True)]
    second = [one[0] for one in others]
    assert second != logits.argmax(axis=1).tolist(), "some images are taken for their class"
    expected = ranked(own, differentiate(classifier, inputs, second, score)[1], signed=True)
    np.testing.assert_allclose(found.found[0]["class/spearman_signed"], expected, atol=CLOSE)
    third = ranked(own, differentiate(classifier, inputs, [one[1] for one in others], score)[1], signed=True)
    assert not np.allclose(expected, third, atol=10 * CLOSE), "another class would be another number"
    assert found.class_sensitivity(0).mean == pytest.approx(np.mean(expected), abs=CLOSE)


def test_what_randomization_leaves_is_of_the_score_too_and_its_floor_that_of_noise(store):
    found = comparison.sanity(store, PAIR[:1], Options(num=NUM, score="logprob"))
    inputs, labels, ids = samples(store)
    classifier = store.resolve(PAIR[0]).load()[0]
    own, blank = (differentiate(one, inputs, labels, "logprob")[1] for one in (classifier, untrained(classifier, 0)))
    left, noise = found.found[0][f"after/spearman_signed/{found.blocks(0)[-1]}"], random_maps(ids, own.shape[1:])
    np.testing.assert_allclose(left, ranked(own, blank, signed=True), atol=CLOSE)
    floor = found.found[0]["floor/spearman_signed/random"]
    np.testing.assert_allclose(floor, ranked(own, noise, signed=True), atol=CLOSE)
