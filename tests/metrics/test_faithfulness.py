"""Removal tests on models whose answers are known, and imputation against a sparse solver."""

import numpy as np
import pytest
import torch
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve
from torch import nn

from cvx.metrics import faithfulness
from cvx.metrics.faithfulness import TESTS, area, curves, impute, shares

SIDE = 6


class Weighted(nn.Module):
    """The logit of class 1 is a weighted sum of the pixels, that of class 0 is zero."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, inputs):
        logit = (inputs.mean(dim=1) * self.weights).sum(dim=(1, 2))
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


def example(num=3, seed=0):
    random = np.random.default_rng(seed)
    inputs = torch.tensor(random.random((num, 3, SIDE, SIDE)), dtype=torch.float32)
    weights = random.standard_normal((SIDE, SIDE))
    return Weighted(weights), inputs, torch.ones(num, dtype=torch.int64)


def probability(model, inputs):
    return model(inputs).softmax(dim=1)[:, 1].detach().numpy()


@pytest.mark.parametrize("baseline", ["mean", "blur"])
def test_curves_lead_from_the_image_to_the_baseline_and_back(baseline):
    model, inputs, targets = example()
    maps = np.random.default_rng(1).random((3, SIDE, SIDE)).astype(np.float32)
    out = curves(model, inputs, targets, maps, f"deletion_{baseline}")
    back = curves(model, inputs, targets, maps, f"insertion_{baseline}")
    mean = inputs.mean(dim=(2, 3), keepdim=True).expand_as(inputs)
    ground = mean if baseline == "mean" else faithfulness.blur(inputs)
    for curve in (out, back[:, ::-1]):
        np.testing.assert_allclose(curve[:, 0], probability(model, inputs), rtol=1e-5)
        np.testing.assert_allclose(curve[:, -1], probability(model, ground), rtol=1e-5)


def test_deletion_is_what_taking_the_pixels_out_by_hand_gives():
    model, inputs, targets = example(1)
    maps = np.arange(SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE)
    found = curves(model, inputs, targets, maps, "deletion_mean")[0]
    for share, value in zip(shares("deletion_mean"), found, strict=True):
        changed, gone = inputs.clone().flatten(2), round(share * 36)
        changed[:, :, 36 - gone :] = inputs.mean(dim=(2, 3))[..., None]
        assert value == pytest.approx(probability(model, changed.reshape(inputs.shape))[0], rel=1e-5)


def test_insertion_is_what_putting_the_pixels_in_by_hand_gives():
    model, inputs, targets = example(1)
    maps = np.arange(SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE)
    found = curves(model, inputs, targets, maps, "insertion_blur")[0]
    ground = faithfulness.blur(inputs).flatten(2)
    for share, value in zip(shares("insertion_blur"), found, strict=True):
        changed, there = ground.clone(), round(share * 36)
        changed[:, :, 36 - there :] = inputs.flatten(2)[:, :, 36 - there :]
        assert value == pytest.approx(probability(model, changed.reshape(inputs.shape))[0], rel=1e-5)


def test_a_constant_map_and_a_one_pixel_map_still_order_every_pixel():
    model, inputs, targets = example()
    maps = np.ones((3, SIDE, SIDE), np.float32)
    maps[1] = 0
    maps[1, 2, 3] = -1
    for test in TESTS:
        found = curves(model, inputs, targets, maps, test)
        assert np.isfinite(found).all(), test
        whole = curves(model, inputs, targets, np.full_like(maps, 7), test)
        np.testing.assert_array_equal(found[[0, 2]], whole[[0, 2]])
    first = curves(model, inputs, targets, maps, "deletion_mean")[1, 1]
    order = np.random.default_rng(0).permutation(36)
    gone = [15, *(pixel for pixel in order if pixel != 15)][:4]
    changed = inputs[1:2].clone().flatten(2)
    changed[:, :, gone] = inputs[1:2].mean(dim=(2, 3))[..., None]
    assert first == pytest.approx(probability(model, changed.reshape(1, 3, SIDE, SIDE))[0], rel=1e-5)


def test_the_map_that_knows_what_each_pixel_adds_beats_noise():
    random = np.random.default_rng(0)
    weights = np.abs(random.standard_normal((SIDE, SIDE))) ** 3
    model, targets = Weighted(weights), torch.ones(20, dtype=torch.int64)
    inputs = torch.tensor(random.integers(0, 2, (20, 3, SIDE, SIDE)), dtype=torch.float32)
    added = weights * (inputs.mean(dim=1) - inputs.mean(dim=(1, 2, 3))[:, None, None]).numpy()
    own, noise = (np.maximum(added, 0) + 1e-6).astype(np.float32), random.random(added.shape).astype(np.float32)
    for test in ("deletion_mean", "insertion_mean", "road_most"):
        better, worse = (area(curves(model, inputs, targets, maps, test), test).mean() for maps in (own, noise))
        assert (better > worse) == (faithfulness.BETTER[test] == "higher"), test


def test_a_zero_map_orders_nothing_and_leaves_the_others_alone():
    model, inputs, targets = example()
    maps = np.random.default_rng(1).random((3, SIDE, SIDE)).astype(np.float32)
    for test in TESTS:
        whole = curves(model, inputs, targets, maps, test)
        some = maps.copy()
        some[1] = 0
        found = curves(model, inputs, targets, some, test)
        assert np.isnan(found[1]).all() and np.isnan(area(found, test)[1])
        np.testing.assert_allclose(found[[0, 2]], whole[[0, 2]])


def test_an_images_curve_does_not_depend_on_its_batch():
    model, inputs, targets = example(40)
    maps = np.random.default_rng(1).random((40, SIDE, SIDE)).astype(np.float32)
    for test in ("deletion_blur", "road_most"):
        together = curves(model, inputs, targets, maps, test)
        alone = curves(model, inputs[33:34], targets[33:34], maps[33:34], test)
        np.testing.assert_allclose(together[33:34], alone, atol=1e-5)


def test_tied_pixels_are_not_taken_from_one_corner():
    maps = np.ones((1, 20, 20), np.float32)
    places = faithfulness._places(maps, last_first=False, seed=0)[0]
    first = places < 100
    assert 10 < first[:10].sum() < 90 and 10 < first[:, :10].sum() < 90
    assert sorted(places.ravel()) == list(range(400))


def test_the_two_orders_of_road_are_each_others_reverse():
    maps = np.random.default_rng(0).random((2, 5, 5)).astype(np.float32)
    most, least = (faithfulness._places(maps, last_first=last, seed=0) for last in (False, True))
    np.testing.assert_array_equal(most + least, 24)
    np.testing.assert_array_equal(most.reshape(2, -1).argmin(axis=1), maps.reshape(2, -1).argmax(axis=1))


def test_areas_of_known_curves():
    assert area(np.full((2, 11), 0.3), "deletion_mean") == pytest.approx([0.3, 0.3])
    assert area(np.linspace(1, 0, 10)[None], "road_most") == pytest.approx([0.5])


def solved(image, missing):
    """Solve the imputation's equations one pixel at a time with scipy."""
    side = len(missing)
    index = {tuple(pixel): k for k, pixel in enumerate(np.argwhere(missing))}
    system, right = lil_matrix((len(index), len(index))), np.zeros(len(index))
    for (row, column), k in index.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                other, weight = (row + down, column + across), 1 / 6 if 0 in (down, across) else 1 / 12
                if (down, across) == (0, 0) or not (0 <= other[0] < side and 0 <= other[1] < side):
                    continue
                system[k, k] += weight
                if missing[other]:
                    system[k, index[other]] -= weight
                else:
                    right[k] += weight * image[other]
    found = image.copy()
    found[missing] = np.atleast_1d(spsolve(system.tocsr(), right))
    return found


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_imputation_solves_the_equations(share):
    random = np.random.default_rng(0)
    images, missing = random.random((3, 2, 9, 9)), random.random((3, 9, 9)) < share
    found = impute(torch.tensor(images, dtype=torch.float32), torch.tensor(missing), noise=0.0).numpy()
    for i in range(3):
        for c in range(2):
            np.testing.assert_allclose(found[i, c], solved(images[i, c], missing[i]), atol=2e-4)


def test_imputation_leaves_known_pixels_and_adds_the_noise_it_says():
    images = torch.full((4, 1, 40, 40), 0.5)
    missing = torch.zeros(4, 40, 40, dtype=torch.bool)
    missing[:, :, :20] = True
    found = impute(images, missing)
    assert (found[:, :, :, 20:] == 0.5).all()
    filled = found[:, 0, :, :20] - 0.5
    assert filled.std() == pytest.approx(faithfulness.NOISE, rel=0.1) and abs(filled.mean()) < 1e-3
    torch.testing.assert_close(found[0], found[3])


def test_an_image_with_no_known_pixel_becomes_its_mean_color():
    images = torch.rand(2, 3, 5, 5)
    missing = torch.ones(2, 5, 5, dtype=torch.bool)
    missing[1, 0, 0] = False
    found = impute(images, missing, noise=0.0)
    torch.testing.assert_close(found[0], images[0].mean(dim=(1, 2), keepdim=True).expand(3, 5, 5))
    torch.testing.assert_close(found[1], images[1, :, :1, :1].expand(3, 5, 5), atol=1e-3, rtol=0)


def test_an_unknown_test_is_an_error_that_lists_the_known_ones():
    model, inputs, targets = example()
    with pytest.raises(ValueError, match="unknown test 'erase'; known: deletion_mean"):
        curves(model, inputs, targets, np.ones((3, SIDE, SIDE), np.float32), "erase")
