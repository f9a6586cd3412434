from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from cvx import data
from cvx.data.readers import digits


def test_every_scanned_digit_is_there_with_its_label():
    source, expected = digits.source(Path()), load_digits()
    part = source.parts["train"]
    assert len(part.images) == 1797
    assert np.array_equal(part.labels, expected.target)
    assert np.abs(part.images[..., 0] / 255 * 16 - expected.images).max() < 16 / 255 / 2 + 1e-9


def test_values_reach_from_black_to_white():
    images = digits.source(Path()).parts["train"].images
    assert (images.min(), images.max(), images.shape[1:]) == (0, 255, (8, 8, 1))


def test_a_digit_must_not_be_flipped():
    assert not digits.INFO.flip


def test_the_test_split_is_the_same_stratified_fifth_whatever_the_val_fraction(data_root):
    few, many = data.load("digits", data_root), data.load("digits", data_root, val_fraction=0.4)
    assert np.array_equal(few.test.ids, many.test.ids)
    assert len(few.test) == round(1797 / 5)
    shares = np.bincount(few.test.labels) / len(few.test)
    everything = np.bincount(load_digits().target) / 1797
    assert np.abs(shares - everything).max() < 1 / len(few.test)


def test_every_digit_is_in_one_split(data_root):
    splits = data.load("digits", data_root)
    ids = np.concatenate([splits.train.ids, splits.val.ids, splits.test.ids])
    assert np.array_equal(np.sort(ids), np.arange(1797))
    assert splits.classes == tuple("0123456789")
