"""How much of a map lies on a mask, against scikit-learn and hand-computed cases."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from cvx import models
from cvx.attribution import to_heatmap, vanilla_gradient
from cvx.metrics.localization import MEASURES, chance, localize


def square(num, side, size):
    masks = np.zeros((num, side, side), bool)
    masks[:, 1 : 1 + size, 2 : 2 + size] = True
    return masks


def test_a_map_equal_to_the_mask_scores_one():
    masks = square(2, 8, 3)
    for name, values in localize(masks.astype(np.float32), masks).items():
        np.testing.assert_allclose(values, 1, err_msg=name)


def test_a_map_off_the_mask_scores_zero():
    masks = square(1, 8, 3)
    for name, values in localize((~masks).astype(np.float32), masks).items():
        np.testing.assert_allclose(values, 0, err_msg=name)


def test_a_map_computed_by_hand():
    maps = np.array([[[4, 3, 0], [2, 1, 0], [0, 0, 0]]], np.float32)
    masks = np.array([[[0, 1, 0], [1, 0, 0], [1, 0, 0]]], bool)
    found = localize(maps, masks)
    assert found["pointing"] == [0]
    assert found["mass"] == pytest.approx([0.5])
    assert found["rank"] == pytest.approx([2 / 3])  # the three largest are 4, 3 and 2
    assert found["auc"] == pytest.approx([(5 + 5 + 2) / 18])  # pixels off the mask that 3, 2 and 0 outrank


def test_auc_is_scikit_learns_also_with_ties():
    random = np.random.default_rng(0)
    maps = random.integers(0, 4, (6, 7, 7)).astype(np.float32)
    masks = random.random((6, 7, 7)) < 0.3
    expected = [roc_auc_score(mask.ravel(), one.ravel()) for mask, one in zip(masks, maps, strict=True)]
    np.testing.assert_allclose(localize(maps, masks)["auc"], expected)


@pytest.mark.parametrize("size", [1, 3, 6])
def test_a_constant_map_scores_exactly_what_chance_does(size):
    masks = square(1, 8, size)
    found, expected = localize(np.full((1, 8, 8), 0.2, np.float32), masks), chance(masks)
    for name in MEASURES:
        np.testing.assert_allclose(found[name], expected[name], err_msg=name)
    assert expected["mass"] == pytest.approx([size**2 / 64]) and expected["auc"] == [0.5]


def test_noise_scores_what_chance_does_on_average():
    masks = square(4000, 8, 3)
    maps = np.random.default_rng(1).random((4000, 8, 8), dtype=np.float32)
    for name, values in localize(maps, masks).items():
        assert values.mean() == pytest.approx(chance(masks)[name].mean(), abs=0.015), name


def test_a_one_pixel_mask_asks_for_that_pixel():
    masks = np.zeros((2, 4, 4), bool)
    masks[:, 2, 1] = True
    maps = np.random.default_rng(0).random((2, 4, 4)).astype(np.float32)
    maps[0, 2, 1] = 5
    found = localize(maps, masks)
    assert found["pointing"][0] == found["rank"][0] == found["auc"][0] == 1
    assert found["mass"][1] == pytest.approx(maps[1, 2, 1] / maps[1].sum())


def test_zero_maps_and_empty_or_full_masks_are_undefined_one_by_one():
    masks = square(4, 8, 3)
    maps = np.random.default_rng(0).random((4, 8, 8)).astype(np.float32)
    maps[0], masks[1], masks[2] = 0, False, True
    found = localize(maps, masks)
    for name, values in found.items():
        assert np.isnan(values[[0, 1]]).all() and np.isfinite(values[3]), name
    assert np.isnan(found["auc"][2]) and found["mass"][2] == pytest.approx(1)


def test_signs_do_not_matter():
    masks, maps = square(3, 8, 3), np.random.default_rng(0).standard_normal((3, 8, 8)).astype(np.float32)
    for name, values in localize(-maps, masks).items():
        np.testing.assert_allclose(values, localize(np.abs(maps), masks)[name], err_msg=name)


def test_an_untrained_model_looks_where_chance_does():
    torch.manual_seed(0)
    net, random = models.build("vit_mini", 4, 16, 1), np.random.default_rng(0)
    masks = np.zeros((300, 16, 16), bool)
    masks[:, :5, :5] = True
    masks = np.stack([np.roll(mask, tuple(random.integers(0, 16, 2)), axis=(0, 1)) for mask in masks])
    inputs = torch.tensor(random.random((300, 1, 16, 16)), dtype=torch.float32)
    maps = to_heatmap(vanilla_gradient(net, inputs, torch.arange(300) % 4)[1].numpy())
    for name, values in localize(maps, masks).items():
        assert values.mean() == pytest.approx(chance(masks)[name].mean(), abs=0.04), name
