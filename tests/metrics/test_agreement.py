"""Agreement between maps against scipy, scikit-image and hand-computed cases."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.feature import hog as skimage_hog
from skimage.filters import sobel as skimage_sobel
from skimage.metrics import structural_similarity

from cvx.metrics import agreement, control_maps
from cvx.metrics.agreement import MEASURES, compare, map_features

SIZES = (5, 8, 28, 32, 33, 64)


def draw(num, side, channels=3, seed=0):
    return np.random.default_rng(seed).standard_normal((num, channels, side, side), dtype=np.float32)


def related(num, side):
    """Two maps that share a part, so that no measure is near 0 or 1."""
    common = draw(num, side, seed=1)
    return common + draw(num, side, seed=2), common + draw(num, side, seed=3)


def magnitudes(attribution):
    found = np.abs(attribution).max(axis=1).astype(np.float64)
    return found / found.max(axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("side", SIZES)
def test_identical_maps_agree_perfectly_by_every_measure(side):
    maps = map_features(draw(4, side))
    for name, values in compare(maps, maps).items():
        np.testing.assert_allclose(values, 1, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("side", [4, 32])
def test_spearman_is_scipys_also_where_values_are_tied(side):
    first, second = related(5, side)
    first, second = np.round(first), np.round(second)
    found = compare(map_features(first), map_features(second))
    for i in range(5):
        a, b = (np.abs(one[i]).max(axis=0).ravel() for one in (first, second))
        assert found["spearman"][i] == pytest.approx(spearmanr(a, b).statistic)
        a, b = (one[i].sum(axis=0).ravel() for one in (first, second))
        assert found["spearman_signed"][i] == pytest.approx(spearmanr(a, b).statistic)


@pytest.mark.parametrize("side", SIZES)
def test_ssim_is_scikit_images(side):
    first, second = related(3, side)
    a, b = magnitudes(first), magnitudes(second)
    window = min(7, side - 1 + side % 2)
    expected = [structural_similarity(x, y, win_size=window, data_range=1.0) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(compare(map_features(first), map_features(second))["ssim"], expected, atol=1e-12)


@pytest.mark.parametrize("side", SIZES)
def test_hog_features_are_scikit_images(side):
    maps = magnitudes(draw(3, side))
    cell = agreement.cell_side(side)
    blocks = min(3, side // cell)
    expected = [skimage_hog(one, 9, (cell, cell), (blocks, blocks), block_norm="L2-Hys") for one in maps]
    np.testing.assert_allclose(agreement.hog(maps), expected, atol=1e-6)


@pytest.mark.parametrize(("side", "cell"), [(8, 2), (28, 4), (32, 8), (64, 8), (96, 8), (224, 8), (2, 2)])
def test_hog_cells_divide_the_usual_sizes(side, cell):
    assert agreement.cell_side(side) == cell


def test_cosine_is_the_angle_between_all_channels():
    first, second = related(3, 6)
    a, b = first.reshape(3, -1), second.reshape(3, -1)
    expected = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(compare(map_features(first), map_features(second))["cosine"], expected, rtol=1e-5)
    np.testing.assert_allclose(compare(map_features(first), map_features(-first))["cosine"], -1, atol=1e-9)


def test_the_tops_of_two_maps_share_what_can_be_counted():
    first, second = np.zeros((1, 1, 10, 10), np.float32), np.zeros((1, 1, 10, 10), np.float32)
    first.ravel()[:10] = np.arange(10, 0, -1)  # the top tenth of 100 pixels
    second.ravel()[4:14] = np.arange(10, 0, -1)
    assert compare(map_features(first), map_features(second))["topk"] == pytest.approx([0.6])


def test_pixels_tied_for_the_last_places_of_the_top_share_them():
    maps = np.zeros((1, 1, 10, 10), np.float32)
    maps.ravel()[:8] = 2
    maps.ravel()[8:12] = 1  # four pixels for two places
    top = map_features(maps).top[0] * 10
    np.testing.assert_allclose(top[:13], [1] * 8 + [0.5] * 4 + [0])


def test_shuffled_maps_agree_as_chance_does():
    maps = draw(400, 16)
    shuffled = np.random.default_rng(5).permutation(maps.reshape(400, 3, -1), axis=2).reshape(maps.shape)
    found = {name: values.mean() for name, values in compare(map_features(maps), map_features(shuffled)).items()}
    for name in ("spearman", "spearman_signed", "cosine"):
        assert abs(found[name]) < 0.015, name
    assert found["topk"] == pytest.approx(26 / 256, abs=0.01)


def test_agreement_does_not_depend_on_the_maps_scale():
    first, second = related(3, 16)
    plain, scaled = (
        compare(map_features(first), map_features(second)),
        compare(map_features(first * 2**-60), map_features(second * 2**40)),
    )
    for name in MEASURES:
        np.testing.assert_allclose(plain[name], scaled[name], atol=1e-9, err_msg=name)


def test_a_zero_or_constant_map_is_undefined_and_leaves_the_others_alone():
    first, second = related(4, 16)
    whole = compare(map_features(first), map_features(second))
    first[1], second[2] = 0, 0.3
    found = compare(map_features(first), map_features(second))
    for name, values in found.items():
        if name in ("cosine",):  # a constant map has a direction
            assert np.isnan(values[1]), name
        else:
            assert np.isnan(values[[1, 2]]).all(), name
        np.testing.assert_allclose(values[[0, 3]], whole[name][[0, 3]], err_msg=name)


def test_one_pixel_maps_agree_where_the_pixel_is_the_same_and_nowhere_else():
    first, second = np.zeros((2, 2, 1, 16, 16), np.float32)
    first[:, 0, 4, 4] = 2
    second[0, 0, 4, 4], second[1, 0, 12, 12] = 5, -5
    found = compare(map_features(first), map_features(second))
    for name, values in found.items():
        assert values[0] == pytest.approx(1), name
    assert found["spearman"][1] == pytest.approx(spearmanr(np.eye(256)[0], np.eye(256)[1]).statistic)
    assert found["spearman_signed"][1] == pytest.approx(1 / 255) and found["cosine"][1] == 0
    assert found["topk"][1] == 0, "pixels that are zero are in no map's top"
    one, other = (np.abs(maps[1, 0]).astype(float) / np.abs(maps[1]).max() for maps in (first, second))
    assert found["ssim"][1] == pytest.approx(structural_similarity(one, other, data_range=1))


def test_only_the_measures_that_are_asked_for_are_made():
    first, second = map_features(draw(2, 16)), map_features(draw(2, 16, seed=1))
    found = compare(first, second, ("spearman", "ssim"))
    assert list(found) == ["spearman", "ssim"]
    for name, values in compare(first, second).items():
        np.testing.assert_array_equal(values, found.get(name, values))


def test_maps_too_small_for_a_measure_are_undefined_by_it():
    found = compare(map_features(draw(2, 2)), map_features(draw(2, 2, seed=1)))
    assert np.isnan(found["ssim"]).all() and np.isfinite(found["spearman"]).all()
    found = compare(map_features(draw(2, 1)), map_features(draw(2, 1)))
    assert all(np.isnan(found[name]).all() for name in ("spearman", "ssim", "hog", "topk"))
    np.testing.assert_allclose(found["cosine"], 1)


def test_maps_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="cannot be compared pixel by pixel"):
        compare(map_features(draw(2, 8)), map_features(draw(2, 16)))


def test_sobel_is_scikit_images_of_the_mean_channel():
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 9, 3), dtype=np.uint8)
    expected = [skimage_sobel(image.mean(axis=2) / 255) for image in images]
    np.testing.assert_allclose(control_maps.sobel(images), expected, atol=1e-6)
    assert not control_maps.sobel(np.full((1, 4, 4, 1), 77, np.uint8)).any()


def test_an_images_noise_does_not_depend_on_its_neighbors():
    ids = np.array([4, 9, 2])
    together = control_maps.random_maps(ids, (3, 5, 5))
    np.testing.assert_array_equal(together[1:2], control_maps.random_maps(ids[1:2], (3, 5, 5)))
    assert (together != control_maps.random_maps(ids, (3, 5, 5), seed=1)).all()


def test_noise_is_normal_and_every_image_has_its_own():
    draws = control_maps.random_maps(np.arange(4), (3, 64, 64)).reshape(4, -1)
    np.testing.assert_allclose(np.cov(draws.astype(np.float64)), np.eye(4), atol=0.05)
    np.testing.assert_allclose(np.quantile(draws, [0.025, 0.5, 0.975]), [-1.96, 0, 1.96], atol=0.05)


def test_blurring_keeps_a_map_flat_and_its_images_apart():
    maps = np.zeros((2, 16, 16), np.float32)
    maps[0] = 3
    found = control_maps.blurred(maps)
    np.testing.assert_allclose(found[0], 3, rtol=1e-6)
    assert not found[1].any()
