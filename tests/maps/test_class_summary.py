"""What a class view sums up of many maps: their mean, their center, what lies on masks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_looks import NAMES, card_of, maps, noise, spot, view_of

from cvx import models
from cvx.cli import attribute
from cvx.data.dataset_types import Split
from cvx.maps import figures
from cvx.maps.class_summary import explain_class, summarize_class
from cvx.maps.explanation import explain_images
from cvx.metrics.complexity import describe
from cvx.report.sections.maps import _class_cell
from demo.components.class_cards import class_cards


def test_the_mean_map_counts_every_image_alike():
    summed = summarize_class(view_of(maps(1000 * spot(4, (0, 0)), 0.001 * spot(4, (3, 3)))), np.arange(2), "cat")
    assert np.allclose(summed.mean_map, (spot(4, (0, 0)) + spot(4, (3, 3))) / 2)
    assert summed.num == 2 and summed.num_zero == 0


def test_a_zero_map_is_counted_and_left_out_of_every_mean():
    masks = np.stack([spot(4, (1, 1)), spot(4, (0, 0))]).astype(bool)
    summed = summarize_class(view_of(maps(spot(4, (1, 1)), np.zeros((4, 4)))), np.arange(2), "cat", masks)
    assert np.array_equal(summed.mean_map, spot(4, (1, 1)))
    assert (summed.num, summed.num_zero, summed.mass_on_mask, summed.mask_share) == (2, 1, 1.0, 1 / 16)
    assert np.isfinite(summed.maps).all()


def test_a_class_with_zero_maps_only_has_no_numbers_and_a_zero_mean():
    masks = np.ones((2, 4, 4), bool)
    summed = summarize_class(view_of(np.zeros((2, 1, 4, 4))), np.arange(2), "cat", masks)
    assert np.array_equal(summed.mean_map, np.zeros((4, 4))) and np.isnan(summed.center_bias)
    assert summed.mass_on_mask is None and summed.mask_share is None and summed.num_zero == 2


@pytest.mark.parametrize("scale", [1e-30, 1e-42, 1e30])
def test_tiny_and_huge_maps_count_like_others(scale):
    ones = np.ones((1, 1, 16, 16), np.float32) * np.float32(scale)
    summed = summarize_class(view_of(ones), np.arange(1), "cat")
    assert np.allclose(summed.mean_map, 1 / 256) and np.isclose(summed.center_bias, 1)


def test_a_class_view_and_the_table_of_properties_mean_the_same_center_bias():
    several = np.random.default_rng(0).standard_normal((4, 1, 5, 5)).astype(np.float32)
    several[2] = 0
    own = describe(np.abs(several[:, 0]))["center_bias"]
    summed = summarize_class(view_of(several), np.arange(4), "cat", reduction="signed")
    assert summed.center_bias == pytest.approx(np.nanmean(own), rel=1e-6)


def test_maps_of_one_pixel_have_no_center_bias_anywhere():
    one = np.ones((2, 1, 1, 1), np.float32)
    view = summarize_class(view_of(one), np.arange(2), "cat")
    assert np.isnan(view.center_bias) and np.isnan(describe(one[:, 0])["center_bias"]).all()
    row = figures._class_row(view, view.mean_map, 1.0)
    shown = [*row.facts, class_cards._facts(view), *attribute._numbers([view]), _class_cell(view, {}).caption]
    assert "nan" not in " ".join(shown)


@given(st.integers(2, 12), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_center_bias_is_one_for_a_uniform_map_and_below_for_a_central_one(size, seed):
    uniform = summarize_class(view_of(np.ones((2, 1, size, size)) * (seed + 1)), np.arange(2), "cat")
    assert np.isclose(uniform.center_bias, 1)
    rows = np.arange(size) - (size - 1) / 2
    distances = np.hypot(rows[:, None], rows[None])
    central = summarize_class(view_of(np.exp(-distances)[None, None]), np.arange(1), "cat").center_bias
    outward = summarize_class(view_of(np.exp(distances)[None, None]), np.arange(1), "cat").center_bias
    assert central <= 1 + 1e-6 <= outward + 2e-6 and (size <= 2 or central < 1 < outward)


def test_center_bias_of_one_pixel_is_its_distance_over_the_mean_distance():
    rows = np.arange(5) - 2
    distances = np.hypot(rows[:, None], rows[None])
    for cell in [(0, 0), (2, 2), (1, 4)]:
        summed = summarize_class(view_of(maps(spot(5, cell))), np.arange(1), "cat")
        assert np.isclose(summed.center_bias, distances[cell] / distances.mean())


def test_mass_on_mask_is_the_mean_share_of_the_map_and_chance_the_mean_share_of_the_image():
    random = np.random.default_rng(0)
    attribution, masks = random.normal(size=(6, 3, 8, 8)), random.random((6, 8, 8)) < 0.3
    summed = summarize_class(view_of(attribution), np.arange(6), "cat", masks)
    heat = np.abs(attribution).max(axis=1)
    expected = [heat[i][masks[i]].sum() / heat[i].sum() for i in range(6)]
    assert np.isclose(summed.mass_on_mask, np.mean(expected)) and np.isclose(summed.mask_share, masks.mean())


def test_a_map_that_knows_nothing_has_the_mass_of_chance():
    masks = np.random.default_rng(0).random((5, 8, 8)) < 0.4
    summed = summarize_class(view_of(np.ones((5, 1, 8, 8))), np.arange(5), "cat", masks)
    assert np.isclose(summed.mass_on_mask, summed.mask_share)


def test_an_image_whose_mask_is_empty_is_left_out_of_the_mass():
    masks = np.stack([spot(4, (1, 1)), np.zeros((4, 4))]).astype(bool)
    summed = summarize_class(view_of(maps(spot(4, (1, 1)), spot(4, (1, 1)))), np.arange(2), "cat", masks)
    assert summed.mass_on_mask == 1.0 and summed.mask_share == 1 / 16
    empty = summarize_class(view_of(maps(spot(4, (1, 1)))), np.arange(1), "cat", np.zeros((1, 4, 4), bool))
    assert empty.mass_on_mask is None


def test_a_mask_is_fitted_to_a_model_of_another_size():
    masks = np.zeros((1, 8, 8), bool)
    masks[:, :4] = True
    upper = np.zeros((1, 1, 16, 16))
    upper[:, :, :8] = 1
    summed = summarize_class(view_of(upper), np.arange(1), "cat", masks)
    assert summed.mass_on_mask == 1.0 and summed.mask_share == 0.5


def test_signed_maps_keep_their_sign_in_the_mean_and_their_magnitude_in_the_numbers():
    part = spot(4, (1, 1)) - spot(4, (0, 0))
    mask = spot(4, (1, 1)).astype(bool)[None]
    summed = summarize_class(view_of(maps(part)), np.arange(1), "cat", mask, reduction="signed")
    assert summed.mean_map[1, 1] == 0.5 and summed.mean_map[0, 0] == -0.5 and summed.mass_on_mask == 0.5


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return models.build("resnet10t", 3, 16, 3, mean=(0.5,) * 3, std=(0.25,) * 3).eval()


@pytest.fixture
def samples():
    labels = np.tile(np.arange(3), 10)
    return Split(noise(30, 16, 16, 3), labels, np.arange(100, 130))


def test_a_class_view_is_of_the_first_samples_of_the_class(net, samples):
    seen = explain_class("a:v0", net, card_of(net), samples, 1, num=4, num_exemplars=2)
    assert seen.class_name == "dog" and seen.num == 4
    assert seen.indices.tolist() == [1, 4] and np.array_equal(seen.images, samples.images[[1, 4]])
    view = explain_images("a:v0", net, card_of(net), samples.images[[1, 4, 7, 10]], "dog")
    heat = np.abs(view.attribution).max(axis=1)
    assert np.allclose(seen.maps, heat[:2], rtol=1e-4, atol=1e-7)
    shares = heat / heat.sum(axis=(1, 2), keepdims=True)
    assert np.allclose(seen.mean_map, shares.mean(axis=0), rtol=1e-4)
    assert seen.accuracy == np.mean(view.preds == 1) and seen.preds == tuple(NAMES[p] for p in view.preds[:2])
    assert seen.mass_on_mask is None


def test_a_class_without_samples_and_one_that_does_not_exist_are_errors(net, samples):
    only_cats = Split(samples.images[:1], samples.labels[:1], samples.ids[:1])
    with pytest.raises(ValueError, match="no sample is of class 'owl'"):
        explain_class("a:v0", net, card_of(net), only_cats, 2)
    with pytest.raises(ValueError, match=r"class index must lie in 0…2, got 3"):
        explain_class("a:v0", net, card_of(net), samples, 3)
