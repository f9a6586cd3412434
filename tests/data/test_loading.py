import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cvx import data
from cvx.data import split_source
from cvx.data.dataset_types import Info, Part, Source
from cvx.names import slug

INFO = Info("Toy", "CC0", "nobody", flip=True)


def part(num, size=6, channels=3, seed=0, num_classes=4):
    images = np.random.default_rng([seed, num]).integers(0, 256, (num, size, size, channels), np.uint8)
    return Part(images, np.arange(num) % num_classes)


def toy(*names, num=200, size=6, channels=3, image_size=None):
    parts = {"train": part(num, size, channels), **{name: part(40, size, channels, seed=1) for name in names}}
    return Source(parts, tuple("wxyz"), "ab", size if image_size is None else image_size, INFO)


def test_every_registered_dataset_is_named_as_collections_are():
    assert list(data.DATASETS) == [
        "digits",
        "shapes32",
        "shapes64",
        "fashion_mnist",
        "cifar10",
        "cifar100",
        "tiny_imagenet",
    ]
    assert all(slug(name) == name for name in data.DATASETS)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("folder:/x/birds", "folder-birds"),
        ("folder:~/My Birds/", "folder-my-birds"),
        ("folder:/", "folder-root"),
        ("hub:org/name", "hub-org-name"),
        ("hub:Org/Name#fine label", "hub-org-name-fine-label"),
        ("cifar10", "cifar10"),
        ("größe", "gr-e"),
        ("///", "unnamed"),
    ],
)
def test_a_slug_has_only_what_a_collection_may_have(name, expected):
    assert slug(name) == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "cifar11",
            "unknown dataset 'cifar11'; did you mean 'cifar10'\\? known: digits, .*, folder:PATH, hub:ORG/NAME",
        ),
        ("birds", "unknown dataset 'birds'; known: digits"),
        ("folder:", "unknown dataset 'folder:'"),
        ("hub:", "unknown dataset 'hub:'"),
        ("", "unknown dataset ''"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_images_is_loaded_by_its_path(tmp_path):
    for label, name in enumerate(("crow", "wren")):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for index in range(12):
            color = (10 * index, 200 * label, 40)
            Image.new("RGB", (20 + index, 16), color).save(tmp_path / "birds" / name / f"{index}.png")
    splits = data.load(f"folder:{tmp_path / 'birds'}", tmp_path / "root", image_size=8, val_fraction=0.25)
    assert splits.classes == ("crow", "wren")
    assert splits.train.images.shape[1:] == (8, 8, 3)
    assert (splits.train.images[:, 4, 4, 1] == 200 * splits.train.labels).all()
    assert len(splits.train) + len(splits.val) + len(splits.test) == 24


def test_the_splits_a_source_brings_are_kept(tmp_path):
    source = toy("val", "test")
    splits = split_source(source, "toy", tmp_path, val_fraction=0.5)
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [200, 40, 40]
    assert np.array_equal(splits.val.images, source.parts["val"].images[splits.val.ids])


def test_a_missing_val_is_carved_and_the_test_part_left_alone(tmp_path):
    splits = split_source(toy("test"), "toy", tmp_path, val_fraction=0.25)
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [150, 50, 40]
    assert np.array_equal(np.sort(np.concatenate([splits.train.ids, splits.val.ids])), np.arange(200))


def test_a_missing_test_is_a_fifth_of_train_and_val_a_share_of_the_rest(tmp_path):
    splits = split_source(toy(), "toy", tmp_path, val_fraction=0.1)
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [144, 16, 40]
    ids = np.concatenate([splits.train.ids, splits.val.ids, splits.test.ids])
    assert np.array_equal(np.sort(ids), np.arange(200))
    assert (np.bincount(splits.test.labels) == 10).all()


def test_a_test_part_without_val_does_not_lose_images_to_val(tmp_path):
    splits = split_source(toy("val"), "toy", tmp_path)
    assert [len(split) for split in (splits.train, splits.val, splits.test)] == [160, 40, 40]


def test_carved_splits_are_views_of_one_memory_map(tmp_path):
    splits = split_source(toy(), "toy", tmp_path)
    parts = (splits.train, splits.val, splits.test)
    assert all(isinstance(split.images, np.memmap) and not split.images.flags.owndata for split in parts)
    assert len({split.images.filename for split in parts}) == 1


def test_mean_and_std_are_those_of_the_train_split_alone(tmp_path):
    splits = split_source(toy(), "toy", tmp_path)
    pixels = splits.train.images.astype(np.float64) / 255
    np.testing.assert_allclose(splits.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(splits.std, pixels.std((0, 1, 2)), rtol=1e-9)


def test_a_constant_channel_has_a_std_that_can_divide(tmp_path):
    images = np.full((40, 5, 5, 1), 77, np.uint8)
    source = Source({"train": Part(images, np.arange(40) % 2)}, ("a", "b"), "ab", 5, INFO)
    splits = split_source(source, "toy", tmp_path)
    assert splits.mean == pytest.approx((77 / 255,))
    assert splits.std == pytest.approx((1 / 255,))


def test_one_channel_stays_one_channel(tmp_path):
    splits = split_source(toy(channels=1), "toy", tmp_path)
    assert splits.in_chans == 1 and len(splits.mean) == 1


def test_the_size_asked_for_is_the_size_got_and_part_of_the_fingerprint(tmp_path):
    native, smaller = (split_source(toy(), "toy", tmp_path, image_size=size) for size in (0, 5))
    assert (native.image_size, smaller.image_size) == (6, 5)
    assert native.fingerprint != smaller.fingerprint
    assert native.fingerprint == split_source(toy(), "toy", tmp_path, image_size=6).fingerprint


def test_images_of_many_sizes_become_64_pixels_and_that_is_said(tmp_path, capsys):
    splits = split_source(toy(image_size=0), "toy", tmp_path)
    assert splits.image_size == 64
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "the images of toy differ in size: fitted to 64 pixels (--image_size)"


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_val_fraction_that_is_no_share_is_refused(tmp_path, fraction):
    with pytest.raises(ValueError, match="val_fraction must be at least 0 and below 1"):
        split_source(toy(), "toy", tmp_path, val_fraction=fraction)


def test_a_negative_image_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="image_size must be 0 .* got -8"):
        split_source(toy(), "toy", tmp_path, image_size=-8)


def test_a_val_fraction_that_empties_a_class_is_seen_before_anything_is_decoded(tmp_path):
    with pytest.raises(
        ValueError, match=r"class 'w' has too few training images .* none is left for val; .* set val_fraction"
    ):
        split_source(toy(), "toy", tmp_path, val_fraction=0)
    assert list(tmp_path.iterdir()) == []


def test_a_class_with_one_image_is_refused(tmp_path):
    labels = np.array([0] * 30 + [1])
    source = Source({"train": Part(np.zeros((31, 4, 4, 3), np.uint8), labels)}, ("crow", "wren"), "ab", 4, INFO)
    with pytest.raises(ValueError, match=r"class 'wren' has too few training images \(1\)"):
        split_source(source, "toy", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_same_name_gives_the_same_arrays_in_another_process(data_root):
    code = """
import hashlib, json, sys
from pathlib import Path
from cvx import data
splits = data.load("digits", Path(sys.argv[1]))
digest = hashlib.sha256(splits.train.images.tobytes() + splits.test.ids.tobytes()).hexdigest()
print(json.dumps([digest, splits.fingerprint, splits.mean]))
"""
    roots = (data_root, data_root / "elsewhere")
    runs = [
        subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=True) for root in roots
    ]
    first, second = (json.loads(run.stdout) for run in runs)
    assert first == second


def test_finding_a_dataset_imports_nothing_heavy():
    code = "import sys, cvx.data; print([name for name in ('torch', 'timm', 'datasets', 'sklearn', 'matplotlib') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
