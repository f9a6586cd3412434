import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cvx.data.dataset_types import NUM_POINTS, Info, Part, Source, Split, Splits
from cvx.data.make_splits import check_source, split_train, stratified_order
from cvx.data.transforms import fit_channels, fit_image, fit_mask, fit_masks

INFO = Info("Toy", "CC0", "nobody", flip=True)
LABELS = hnp.arrays(np.int64, st.integers(1, 150), elements=st.integers(0, 12))


def source(labels=(0, 1, 0, 1), classes=("cat", "dog"), **changed):
    labels = np.array(labels, np.int64)
    part = Part(changed.pop("images", np.zeros((len(labels), 4, 4, 3), np.uint8)), labels, changed.pop("masks", None))
    return Source({changed.pop("part", "train"): part}, classes, "ab", 4, INFO)


@given(LABELS, st.integers(0, 3))
def test_every_prefix_is_stratified(labels, seed):
    order = stratified_order(labels, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    lengths = np.arange(1, len(labels) + 1)
    for label in np.unique(labels):
        expected = lengths * (labels == label).mean()
        assert np.abs(np.cumsum(labels[order] == label) - expected).max() < 1 + 1e-9


def test_balanced_classes_take_turns():
    labels = np.repeat(np.arange(7), 20)
    rounds = labels[stratified_order(labels)].reshape(20, 7)
    assert (np.sort(rounds, axis=1) == np.arange(7)).all()
    assert len({tuple(turn) for turn in rounds.tolist()}) > 10


def test_the_order_follows_from_labels_and_seed_alone():
    labels = np.arange(500) % 9
    assert np.array_equal(stratified_order(labels, 3), stratified_order(labels.copy(), 3))
    assert not np.array_equal(stratified_order(labels, 3), stratified_order(labels, 4))


def test_an_empty_part_has_an_empty_order():
    assert stratified_order(np.zeros(0, np.int64)).shape == (0,)


def test_a_slice_of_a_split_is_a_view_of_every_array():
    images, masks = np.zeros((6, 4, 4, 3), np.uint8), np.zeros((6, 4, 4), bool)
    split = Split(images, np.arange(6), np.arange(6), masks)
    part = split[2:5]
    assert len(part) == 3 and part.ids.tolist() == [2, 3, 4]
    for array in ("images", "labels", "ids", "masks"):
        assert np.shares_memory(getattr(part, array), getattr(split, array))
    assert len(split.head(2)) == 2 and len(split.head(99)) == 6


def test_samples_are_the_first_test_images():
    num = NUM_POINTS + 10
    test = Split(np.zeros((num, 1, 1, 1), np.uint8), np.zeros(num, np.int64), np.arange(num))
    splits = Splits("toy", test[:5], test[:5], test, ("a", "b"), (0.5,), (0.2,), "ab", INFO)
    assert splits.samples.ids.tolist() == list(range(NUM_POINTS))
    assert (splits.num_classes, splits.image_size, splits.in_chans) == (2, 1, 1)


def test_an_image_that_fits_is_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert np.array_equal(fit_image(image, 32), image)


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((32, 50, 3), slice(0, 32), slice(9, 41)), ((61, 32, 1), slice(14, 46), slice(0, 32))],
)
def test_an_image_whose_short_side_fits_is_cropped_at_the_center(shape, rows, columns):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(fit_image(image, 32), image[rows, columns])


def test_shrinking_averages_where_a_plain_pick_would_alias():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[:, ::2] = 255
    fitted = fit_image(stripes, 16)
    assert fitted.shape == (16, 16, 1)
    assert np.abs(fitted[:, 2:-2].astype(int) - 128).max() <= 2


def test_resizing_is_that_of_pillow():
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((20, 20), Image.Resampling.BICUBIC))
    assert np.array_equal(fit_image(image, 20), expected)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9000, 3), (3000, 2, 1), (7, 5, 1)])
def test_images_of_extreme_shapes_are_fitted(shape):
    image = np.full(shape, 90, np.uint8)
    assert (fit_image(image, 24) == np.full((24, 24, shape[2]), 90)).all()


def test_a_mask_is_fitted_as_its_image_is():
    image = np.zeros((40, 64, 1), np.uint8)
    image[8:30, 20:44] = 255
    mask = image[..., 0] == 255
    fitted = fit_mask(mask, 20)
    assert np.array_equal(fitted, fit_image(image, 20)[..., 0] >= 128)
    assert fitted.sum() == 11 * 12
    assert fit_mask(mask[:, :40], 40) is not None and np.array_equal(fit_mask(mask[:, :40], 40), mask[:, :40])


@pytest.mark.parametrize(("side", "size"), [(64, 16), (96, 32), (64, 48), (100, 64), (16, 64)])
def test_many_masks_are_fitted_as_one_is_kept(side, size):
    blobs = np.random.default_rng(side).random((6, side // 4, side // 4)).repeat(4, 1).repeat(4, 2)
    masks = blobs > 0.5
    fitted = fit_masks(masks, size)
    assert np.array_equal(fitted, np.stack([fit_mask(mask, size) for mask in masks]))
    wide = np.concatenate([masks, masks], axis=2)
    assert np.array_equal(fit_masks(wide, size)[0], fit_mask(wide[0], size))
    assert fit_masks(masks[:0], size).shape == (0, size, size)


def test_a_fitted_mask_ends_where_half_a_pixel_is_covered():
    for width in (0, 1, *range(3, 65)):  # at 2 the filter is cut off by the border and sees more of one side
        mask = np.broadcast_to(np.arange(64) < width, (64, 64))
        assert (fit_masks(mask[None], 16)[0] == (np.arange(16) < (width + 2) // 4)).all(), width


def test_luminance_is_that_of_pillow():
    image = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
    assert np.array_equal(fit_channels(image, 1)[..., 0], np.asarray(Image.fromarray(image).convert("L")))


def test_gray_is_repeated_and_the_right_channels_are_left_alone():
    gray = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
    assert np.array_equal(fit_channels(gray, 3), np.concatenate([gray] * 3, axis=-1))
    assert fit_channels(gray, 1) is gray


def test_other_channels_are_an_error():
    with pytest.raises(ValueError, match="cannot turn 3 channels into 2"):
        fit_channels(np.zeros((2, 2, 3), np.uint8), 2)


@given(LABELS, st.floats(0.05, 0.6))
def test_carved_splits_cover_the_train_part_once_and_hold_every_class(labels, fraction):
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    labels = labels[stratified_order(labels)]
    classes = tuple(f"class {index}" for index in range(labels.max() + 1))
    try:
        rows = split_train(labels, classes, {"test": 0.2, "val": fraction})
    except ValueError as error:
        assert "too few training images" in str(error)
        return
    assert (rows["test"].start, rows["test"].stop) == (0, round(0.2 * len(labels)))
    assert rows["val"].start == rows["test"].stop and rows["val"].stop == rows["train"].start
    assert rows["val"].stop - rows["val"].start == round(fraction * (len(labels) - rows["test"].stop))
    assert rows["train"].stop == len(labels)
    assert all(set(labels[part]) == set(labels) for part in rows.values())


def test_nothing_is_carved_where_the_source_has_all_parts():
    assert split_train(np.array([0, 1]), ("a", "b"), {}) == {"train": slice(0, 2)}


def test_a_class_with_one_image_cannot_be_in_three_splits():
    labels = np.array([0] * 30 + [1])
    labels = labels[stratified_order(labels)]
    with pytest.raises(
        ValueError,
        match=r"'wren' has too few training images \(1\) .* test takes 20% of each class, so give .* 6 images or remove it$",
    ):
        split_train(labels, ("crow", "wren"), {"test": 0.2, "val": 0.1})


@pytest.mark.parametrize("num", [2, 3, 5, 8])
def test_the_fraction_that_an_error_proposes_works(num):
    labels = np.array([0] * 400 + [1] * num)
    labels = labels[stratified_order(labels)]
    for fraction in (0.01, 0.999):
        with pytest.raises(ValueError, match="'wren' has too few") as error:
            split_train(labels, ("crow", "wren"), {"val": fraction})
        proposed = str(error.value).split("between ")[1].split(" (")[0].split(" and ")
        for value in proposed:
            rows = split_train(labels, ("crow", "wren"), {"val": float(value)})
            assert set(labels[rows["val"]]) == set(labels[rows["train"]]) == {0, 1}


@pytest.mark.parametrize(("num_classes", "num"), [(3, 4), (40, 3), (1000, 4)])
def test_where_test_is_short_either_advice_of_the_error_works_as_it_is_given(num_classes, num):
    def ordered(num_each):
        labels = np.repeat(np.arange(num_classes), num_each)
        return labels[stratified_order(labels)]

    classes = tuple(f"class {index}" for index in range(num_classes))
    with pytest.raises(ValueError, match=rf"training images \({num}\).* none is left for test") as error:
        split_train(ordered(num), classes, {"test": 0.2, "val": 0.1})
    enough, low, high = re.search(
        r"give each at least (\d+) .* one image of each, and set val_fraction between (\S+) and (\S+) \(it is 0\.1\)",
        str(error.value),
    ).groups()
    full = ordered(int(enough))
    assert set(full[: round(0.2 * len(full))]) == set(range(num_classes))
    rest = ordered(num - 1)
    for fraction in (float(low), float(high)):
        rows = split_train(rest, classes, {"val": fraction})
        assert set(rest[rows["val"]]) == set(rest[rows["train"]]) == set(range(num_classes))


@given(LABELS)
def test_as_many_images_as_an_error_asks_for_fill_the_test_split(labels):
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    classes = tuple(f"class {index}" for index in range(labels.max() + 1))
    try:
        split_train(labels[stratified_order(labels)], classes, {"test": 0.2})
    except ValueError as error:
        if "left for test" not in str(error):
            return
        enough = int(re.search(r"give each at least (\d+) images", str(error))[1])
        counts = np.maximum(np.bincount(labels), enough)
        labels = np.repeat(np.arange(len(counts)), counts)
        split_train(labels[stratified_order(labels)], classes, {"test": 0.2})


@given(LABELS, st.floats(0.01, 0.9))
def test_the_fractions_that_an_error_proposes_work_beside_a_carved_test_split(labels, fraction):
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    labels = labels[stratified_order(labels)]
    classes = tuple(f"class {index}" for index in range(labels.max() + 1))
    try:
        split_train(labels, classes, {"test": 0.2, "val": fraction})
    except ValueError as error:
        if "left for test" in str(error) or "val_fraction between" not in str(error):
            return
        low, high = re.search(r"between (\S+) and (\S+)", str(error)).groups()
        for value in (float(low), float(high), (float(low) + float(high)) / 2):
            split_train(labels, classes, {"test": 0.2, "val": value})


def test_the_smallest_class_is_the_one_an_error_names():
    labels = np.array([0] * 100 + [1] * 3 + [2] * 2)
    labels = labels[stratified_order(labels)]
    with pytest.raises(ValueError, match=r"class 'c' has too few training images \(2\)"):
        split_train(labels, ("a", "b", "c"), {"val": 0.05})


def test_a_good_source_passes():
    check_source(source(), "toy")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (source(part="test"), "'toy' has no train part; found: test"),
        (source(classes=("cat",), labels=(0, 0)), r"'toy' has 1 class\(es\)"),
        (source(labels=(0, 1, 2)), r"train part of 'toy' has labels 0…2; allowed with 2 classes: 0…1"),
        (source(labels=(0, -1)), "labels -1…0"),
        (source(labels=()), "train part of 'toy' holds no image"),
        (source(labels=(0, 0)), "has no image of 'dog'"),
        (source(images=np.zeros((3, 4, 4, 3), np.uint8)), "has 3 images, but 4 labels"),
        (source(masks=np.zeros((3, 4, 4), bool)), "or other masks"),
        (source(classes=tuple("abcdefghij")), r"no image of 'c', 'd', 'e', 'f', 'g', …"),
    ],
)
def test_a_source_that_no_model_can_learn_from_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        check_source(wrong, "toy")
