"""Generated scenes: the outline decides the class, the mask is exact, and a linear model cannot tell."""

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest

from cvx import data
from cvx.data.readers import shapes
from cvx.data.readers.shapes import SHAPES, draw


@pytest.fixture(scope="module")
def scenes():
    labels = np.arange(400, dtype=np.int64) % len(SHAPES)
    return labels, *draw(labels, 32, 7)


def test_the_same_seed_draws_the_same_scenes_in_another_process(scenes):
    _, images, masks = scenes
    code = (
        "import numpy as np, hashlib; from cvx.data.readers.shapes import SHAPES, draw;"
        "images, masks = draw(np.arange(400, dtype=np.int64) % len(SHAPES), 32, 7);"
        "print(hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert said == hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest()


def test_every_scene_has_a_shape_and_a_ground(scenes):
    _, _, masks = scenes
    shares = masks.mean(axis=(1, 2))
    assert shares.min() > 0.03 and shares.max() < 0.9


def crescent_area(radius=0.85, shift=0.55):
    """The unit disc without its overlap with another: two circular segments (Weisstein, Circle-Circle Intersection)."""
    half = math.acos((shift**2 + 1 - radius**2) / (2 * shift))
    other = math.acos((shift**2 + radius**2 - 1) / (2 * shift * radius))
    overlap = half - math.sin(2 * half) / 2 + radius**2 * (other - math.sin(2 * other) / 2)
    return math.pi - overlap


def heart_area(lobe=0.5, length=1.32):
    """Twice a kite, from the tip to both tangent points of a lobe, and the part of the lobe outside it."""
    return 2 * (lobe * length + lobe**2 * (math.pi / 2 + math.atan(lobe / length)))


AREAS = {
    "circle": math.pi * 0.9**2,
    "square": 1.56**2,
    "triangle": 3 * math.sqrt(3) * 0.54**2,
    "star": 5 * 1.08 * 0.45 * math.sin(math.pi / 5),
    "cross": 8 * 0.95 * 0.31 - 4 * 0.31**2,
    "ring": math.pi * (0.96**2 - 0.48**2),
    "crescent": crescent_area(),
    "heart": heart_area(),
    "arrow": 0.44 + 0.78,
    "hourglass": 2 * (0.75 * 0.85**2 + 2 * 0.06 * 0.85),
}


@pytest.mark.parametrize("name", SHAPES)
def test_an_outline_covers_the_area_that_geometry_says(name):
    side = (np.arange(1200, dtype=np.float32) + 0.5) / 400 - 1.5
    x, y = np.meshgrid(side, side)
    inside = SHAPES[name](x[None], y[None]) <= 0
    assert inside.mean() * 3.0**2 == pytest.approx(AREAS[name], rel=2e-3)


def test_a_mask_holds_the_pixels_whose_centers_the_shape_covers():
    """The centers of 32 pixels are among those of 96, and the first chunk of any size places the same shapes."""
    labels = np.arange(40, dtype=np.int64) % len(SHAPES)
    coarse, fine = draw(labels, 32, 3)[1], draw(labels, 96, 3)[1]
    assert (coarse != fine[:, 1::3, 1::3]).sum() <= 2, "float32 may round a center that lies on an outline"


def test_another_ground_leaves_what_the_shape_covers_alone_and_changes_all_outside(monkeypatch):
    labels = np.arange(100, dtype=np.int64) % len(SHAPES)
    images, masks = draw(labels, 32, 5)
    outline = shapes._outline(labels, 32, np.random.default_rng([shapes.GENERATOR, 5, 0]))
    inside, outside = outline <= -0.5, outline >= 0.5
    assert (inside <= masks).all() and not (outside & masks).any()
    ground = shapes._ground
    grays = []
    for gray in (0.3, 0.6):
        # The ground's random numbers are drawn all the same, so light and grain stay what they were.
        monkeypatch.setattr(shapes, "_ground", lambda *known, gray=gray: 0 * ground(*known) + np.float32(gray))
        grays.append(draw(labels, 32, 5)[0].astype(int))
        assert np.abs(images[inside] - grays[-1][inside]).max() <= 1, "more than float32 rounds"
    assert (grays[1][outside] > grays[0][outside]).all()


def test_every_class_is_as_frequent_as_any_other_and_in_no_order(tmp_path):
    parts = shapes.source(tmp_path, 32).parts
    assert {name: np.bincount(part.labels).tolist() for name, part in parts.items()} == {
        "train": [1000] * 10,
        "test": [200] * 10,
    }
    assert all(np.abs(np.diff(part.labels)).mean() > 2 for part in parts.values())


def test_train_and_test_show_other_scenes():
    labels = np.arange(20, dtype=np.int64) % len(SHAPES)
    first, second = draw(labels, 32, 0)[0], draw(labels, 32, 1)[0]
    assert (first != second).reshape(20, -1).mean(axis=1).min() > 0.9


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
    assert model.score(test.images.reshape(len(test), -1) / 255, test.labels) < 0.35


@pytest.mark.slow
def test_the_splits_carry_masks_of_the_same_rows(data_root):
    splits = data.load("shapes32", data_root)
    assert splits.classes == tuple(SHAPES) and splits.image_size == 32 and splits.in_chans == 3
    for split in (splits.train, splits.val, splits.test):
        assert split.masks is not None and split.masks.shape == split.images.shape[:3]
    part = shapes.source(data_root, 32).parts["test"]
    first = int(splits.test.ids[0])
    np.testing.assert_array_equal(part.masks[first], splits.test.masks[0])
    np.testing.assert_array_equal(part.images[first], splits.test.images[0])
