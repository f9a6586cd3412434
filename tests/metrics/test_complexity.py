"""Numbers of single maps against their definitions and scipy."""

import numpy as np
import pytest
from scipy.stats import entropy

from cvx.metrics.complexity import describe


def test_one_pixel_is_as_concentrated_and_certain_as_can_be():
    maps = np.zeros((1, 6, 6), np.float32)
    maps[0, 0, 0] = 7
    found = describe(maps)
    assert found["gini"] == pytest.approx([1 - 1 / 36])
    assert found["entropy"] == pytest.approx([0])
    corner = np.hypot(2.5, 2.5)
    rows, columns = np.indices((6, 6)) - 2.5
    assert found["center_bias"] == pytest.approx([corner / np.hypot(rows, columns).mean()])


def test_a_constant_map_is_even_and_has_no_frequency():
    found = describe(np.full((1, 6, 6), 0.1, np.float32))
    assert found["gini"] == pytest.approx([0], abs=1e-12)
    assert found["entropy"] == pytest.approx([1])
    assert found["center_bias"] == pytest.approx([1])
    assert np.isnan(found["frequency"]).all()


def test_gini_is_half_the_mean_difference_over_the_mean():
    maps = np.random.default_rng(0).random((3, 5, 5)).astype(np.float32)
    flat = maps.reshape(3, -1).astype(np.float64)
    expected = np.abs(flat[:, :, None] - flat[:, None]).mean(axis=(1, 2)) / 2 / flat.mean(axis=1)
    np.testing.assert_allclose(describe(maps)["gini"], expected, rtol=1e-6)


def test_entropy_is_scipys_over_its_largest():
    maps = np.random.default_rng(0).standard_normal((3, 5, 5)).astype(np.float32)
    expected = entropy(np.abs(maps).reshape(3, -1), axis=1) / np.log(25)
    np.testing.assert_allclose(describe(maps)["entropy"], expected, rtol=1e-6)


@pytest.mark.parametrize("cycles", [1, 4, 8])
def test_a_grating_has_its_own_frequency(cycles):
    wave = 2 + np.cos(2 * np.pi * cycles * np.arange(16) / 16)
    maps = np.broadcast_to(wave, (1, 16, 16)).astype(np.float32)
    assert describe(maps)["frequency"] == pytest.approx([cycles / 8], rel=1e-4)


def test_a_zero_map_is_undefined_and_leaves_the_others_alone():
    maps = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32)
    whole = describe(maps)
    maps[1] = 0
    for name, values in describe(maps).items():
        assert np.isnan(values[1]), name
        np.testing.assert_array_equal(values[[0, 2]], whole[name][[0, 2]], err_msg=name)


def test_a_map_of_one_pixel_says_nothing_of_place_or_frequency():
    found = describe(np.ones((2, 1, 1), np.float32))
    assert all(np.isnan(found[name]).all() for name in ("entropy", "center_bias", "frequency"))
