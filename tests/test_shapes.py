"""Generated scenes: the outline decides the class, the mask is exact, and a linear model cannot tell."""

import math
import subprocess
import sys

import numpy as np
import pytest

from cvx import data
from cvx.data import shapes
from cvx.data.shapes import SHAPES, draw


@pytest.fixture(scope="module")
def scenes():
    labels = np.arange(400, dtype=np.int64) % len(SHAPES)
    return labels, *draw(labels, 32, 7)


def test_the_same_seed_draws_the_same_scenes_in_another_process(scenes):
    _, images, masks = scenes
    code = (
        "import numpy as np, hashlib; from cvx.data.shapes import SHAPES, draw;"
        "images, masks = draw(np.arange(400, dtype=np.int64) % len(SHAPES), 32, 7);"
        "print(hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    import hashlib

    assert said == hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest()


def test_every_scene_has_a_shape_and_a_ground(scenes):
    _, _, masks = scenes
    shares = masks.mean(axis=(1, 2))
    assert shares.min() > 0.03 and shares.max() < 0.9


@pytest.mark.parametrize(
    ("name", "area"), [("circle", math.pi * 0.9**2), ("square", 1.56**2), ("ring", math.pi * (0.96**2 - 0.48**2))]
)
def test_an_outline_covers_the_area_that_geometry_says(name, area):
    side = np.linspace(-1.5, 1.5, 1500, dtype=np.float32)
    x, y = (plane[None] for plane in np.meshgrid(side, side))
    inside = SHAPES[name](x, y) <= 0
    assert inside.mean() * 3.0**2 == pytest.approx(area, rel=0.01)


def test_the_shape_differs_in_brightness_from_the_ground_right_outside_its_mask(scenes):
    _, images, masks = scenes
    gray = images.mean(axis=3)
    inner = (gray * masks).sum((1, 2)) / masks.sum((1, 2))
    outer = (gray * ~masks).sum((1, 2)) / (~masks).sum((1, 2))
    contrast = np.abs(inner - outer)
    assert np.median(contrast) > 50 and (contrast > 20).mean() > 0.95
    assert 0.3 < (inner > outer).mean() < 0.7, "a shape is as often darker as lighter"


def test_neither_color_nor_place_gives_the_class_away(scenes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.preprocessing import StandardScaler

    labels, images, masks = scenes
    rows, columns = np.indices((32, 32))
    place = [(masks * axis).sum((1, 2)) / masks.sum((1, 2)) for axis in (rows, columns)]
    features = np.column_stack([images.mean((1, 2)), images.std((1, 2)), *place])
    scaled = StandardScaler().fit_transform(features)
    assert cross_val_score(LogisticRegression(max_iter=500), scaled, labels, cv=4).mean() < 0.35


@pytest.mark.slow
def test_a_linear_model_on_pixels_stays_far_below_a_network(data_root):
    from sklearn.linear_model import RidgeClassifier

    splits = data.load("shapes32", data_root)
    train, test = splits.train.head(4000), splits.test
    model = RidgeClassifier(alpha=1e4).fit(train.images.reshape(len(train), -1) / 255, train.labels)
    assert model.score(test.images.reshape(len(test), -1) / 255, test.labels) < 0.5


def test_the_splits_carry_masks_of_the_same_rows(data_root):
    splits = data.load("shapes32", data_root)
    assert splits.classes == tuple(SHAPES) and splits.image_size == 32 and splits.in_chans == 3
    for split in (splits.train, splits.val, splits.test):
        assert split.masks is not None and split.masks.shape == split.images.shape[:3]
    part = shapes.source(data_root, 32).parts["test"]
    first = int(splits.test.ids[0])
    np.testing.assert_array_equal(part.masks[first], splits.test.masks[0])
    np.testing.assert_array_equal(part.images[first], splits.test.images[0])
