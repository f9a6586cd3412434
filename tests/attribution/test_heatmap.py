"""Channel reduction and scaling, against arithmetic done by hand and properties that hold for every map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cvx.attribution import REDUCTIONS, rescale, to_heatmap

FINITE = st.floats(-(2.0**99), 2.0**99, width=32)
MAPS = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=FINITE)
ATTRIBUTION = np.array([[[[1.0, -4.0]], [[-3.0, 2.0]], [[0.5, 0.0]]]], np.float32)


def test_the_maximum_is_the_largest_magnitude_over_the_channels():
    assert to_heatmap(ATTRIBUTION, "max").tolist() == [[[3.0, 4.0]]]


def test_the_sum_adds_magnitudes_and_the_signed_sum_keeps_signs():
    assert to_heatmap(ATTRIBUTION, "sum").tolist() == [[[4.5, 6.0]]]
    assert to_heatmap(ATTRIBUTION, "signed").tolist() == [[[-1.5, -2.0]]]


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_zero_attribution_stays_zero_beside_one_that_is_not(reduction):
    attribution = np.zeros((2, 3, 4, 4), np.float32)
    attribution[1] = 2
    zero, other = to_heatmap(attribution, reduction)
    assert not zero.any()
    assert (other > 0).all()


def test_one_channel_passes_through_with_its_sign_only_if_asked():
    gray = np.array([[[[-2.0, 1.0]]]], np.float32)
    assert to_heatmap(gray, "signed").tolist() == [[[-2.0, 1.0]]]
    assert to_heatmap(gray, "sum").tolist() == to_heatmap(gray, "max").tolist() == [[[2.0, 1.0]]]


def test_no_images_give_no_maps():
    assert to_heatmap(np.zeros((0, 3, 4, 5), np.float32)).shape == (0, 4, 5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_names_its_image(value):
    attribution = np.zeros((3, 1, 2, 2), np.float32)
    attribution[2, 0, 1, 1] = value
    with pytest.raises(ValueError, match="image 2 holds NaN or infinity"):
        to_heatmap(attribution)
    with pytest.raises(ValueError, match="map 1 holds NaN or infinity"):
        rescale([attribution[0, 0], attribution[2, 0]])


def test_an_unknown_reduction_or_mode_lists_the_known_ones():
    with pytest.raises(ValueError, match="'mean'; known: max, sum, signed"):
        to_heatmap(ATTRIBUTION, "mean")
    with pytest.raises(ValueError, match="'row'; known: shared, each, absolute"):
        rescale([], mode="row")


def test_each_map_has_its_own_limit_and_a_zero_map_is_said_to_be_zero():
    zero, small, large = rescale(
        [np.zeros((2, 2), np.float32), np.full((2, 2), 0.1, np.float32), np.full((3, 3), 5, np.float32)], mode="each"
    )
    assert zero.zero and zero.limit == 0 and zero.clipped == 0 and not zero.values.any()
    assert not small.zero and small.limit == np.float32(0.1) and (small.values == 1).all()
    assert large.limit == 5 and (large.values == 1).all() and large.clipped == 0


def test_a_shared_scale_keeps_the_ratio_of_maps_of_different_sizes():
    weak = np.full((2, 2), 1, np.float32)
    strong = np.full((224, 224), 4, np.float32)
    scaled = rescale([weak, strong, np.zeros((8, 8), np.float32)], mode="shared")
    assert [one.limit for one in scaled] == [4, 4, 4]
    assert [float(one.values.max()) for one in scaled] == [0.25, 1, 0]
    assert [one.zero for one in scaled] == [False, False, True]


def test_a_large_weak_map_does_not_push_a_small_strong_one_off_the_shared_scale():
    strong, weak = np.linspace(0, 9, 9, dtype=np.float32).reshape(3, 3), np.full((100, 100), 0.1, np.float32)
    scaled = rescale([strong, weak], clip=0.99)
    assert scaled[0].limit == 9 and scaled[0].clipped == 0


def test_all_maps_zero_share_a_limit_of_zero():
    assert [one.limit for one in rescale([np.zeros((2, 2), np.float32)] * 2)] == [0, 0]
    assert rescale([]) == []


def test_the_quantile_clips_at_most_the_share_that_was_allowed():
    heatmap = np.arange(1, 101, dtype=np.float32).reshape(10, 10)
    (scaled,) = rescale([heatmap], mode="each", clip=0.9)
    assert scaled.limit == 91  # the 0.9 quantile lies between 90 and 91: the value above it that occurs
    assert scaled.clipped == pytest.approx(0.09)
    assert (scaled.values == 1).sum() == 10
    (whole,) = rescale([heatmap], mode="each", clip=1)
    assert whole.limit == 100 and whole.clipped == 0


def test_a_single_bright_pixel_on_zero_is_not_divided_by_its_zero_quantile():
    heatmap = np.zeros((20, 20), np.float32)
    heatmap[3, 4] = -7
    (scaled,) = rescale([heatmap], mode="each", clip=0.9)
    assert scaled.limit == 7 and scaled.clipped == 0
    assert scaled.values[3, 4] == -1 and np.count_nonzero(scaled.values) == 1


@pytest.mark.parametrize(("value", "drawn"), [(0.0, 0.0), (3.0, 1.0), (-3.0, -1.0), (1e-40, 1.0)])
def test_a_map_of_one_pixel_is_drawn_at_full_scale_or_zero(value, drawn):
    (scaled,) = rescale([np.array([[value]], np.float32)], mode="each")
    assert scaled.values.tolist() == [[drawn]]
    assert scaled.zero == (value == 0)


def test_an_absolute_limit_is_taken_as_given_and_what_lies_beyond_is_counted():
    heatmap = np.array([[-8.0, 1.0], [2.0, 4.0]], np.float32)
    (scaled,) = rescale([heatmap], mode="absolute", limit=2)
    assert scaled.values.tolist() == [[-1, 0.5], [1, 1]]
    assert scaled.limit == 2 and scaled.clipped == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "absolute"}, "a limit belongs"),
        ({"mode": "each", "limit": 1.0}, "a limit belongs"),
        ({"mode": "absolute", "limit": 0.0}, "limit must be positive and finite, got 0"),
        ({"mode": "absolute", "limit": float("nan")}, "limit must be positive"),
        ({"clip": 0.0}, r"clip must lie in \(0, 1\], got 0"),
        ({"clip": 1.5}, "clip must lie"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rescale([np.ones((2, 2), np.float32)], **options)


def test_a_map_without_pixels_is_refused():
    with pytest.raises(ValueError, match="map 0 has no pixels"):
        rescale([np.zeros((0, 3), np.float32)])


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(MAPS, max_size=4), st.sampled_from(["shared", "each"]), st.floats(0.01, 1))
def test_every_scaled_map_lies_in_range_and_keeps_signs_and_its_share(heatmaps, mode, clip):
    for heatmap, scaled in zip(heatmaps, rescale(heatmaps, mode=mode, clip=clip), strict=True):
        assert np.abs(scaled.values).max() <= 1
        assert scaled.zero == (not heatmap.any())
        assert scaled.clipped == np.mean(np.abs(heatmap) > scaled.limit) <= 1 - clip + 1e-9
        assert (np.sign(scaled.values) * np.sign(heatmap) >= 0).all()
        inside = np.abs(heatmap) <= scaled.limit
        expected = heatmap[inside] / np.float64(scaled.limit or 1)
        np.testing.assert_allclose(scaled.values[inside], expected, rtol=1e-6, atol=1e-30)
