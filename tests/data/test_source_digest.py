"""What tells datasets apart: their content, whatever its size, place, file format and age."""

import dataclasses
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_store import add_model

from cvx import data, pipeline
from cvx.config import RunOptions, TrainConfig
from cvx.data import cache, split_source
from cvx.data.dataset_types import Info, Part, Source
from cvx.files import read_json, write_json
from cvx.names import slug
from cvx.store import Store
from cvx.store.runs import RunWriter

INFO = Info("Toy", "CC0", "nobody", flip=True)
CLASSES = ("left", "right")


def fill(folder, seed=0, ending="png", classes=CLASSES, num=8, size=12):
    """Write class folders of noise."""
    random = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(num):
            image = Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8))
            image.save(folder / name / f"{i}.{ending}")
    return folder


def splits_of(folder, root, image_size=0):
    return data.load(f"folder:{folder}", root, image_size, val_fraction=0.25)


class Told:
    """Images that count how often they are decoded; one of them may stop a process once."""

    def __init__(self, images, stop=-1):
        self.images, self.num, self.stop = images, 0, stop

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.num += 1
        if self.num == self.stop:
            raise KeyboardInterrupt
        return self.images[index]


def told(num=300, stop=-1):
    images = np.random.default_rng(5).integers(0, 256, (num, 6, 6, 3), np.uint8)
    return Source({"train": Part(Told(images, stop), np.arange(num) % 2)}, CLASSES, "ab", 6, INFO)


def test_one_dataset_has_one_source_at_every_size(tmp_path):
    fill(tmp_path / "pets")
    own, large = splits_of(tmp_path / "pets", tmp_path), splits_of(tmp_path / "pets", tmp_path, image_size=16)
    assert own.source == large.source and len(own.source) == 16
    assert own.fingerprint != large.fingerprint


def test_a_copy_elsewhere_with_other_times_and_another_format_has_the_same_source(tmp_path):
    fill(tmp_path / "pets")
    time.sleep(0.01)
    shutil.copytree(tmp_path / "pets", tmp_path / "copy", copy_function=shutil.copyfile)
    fill(tmp_path / "bitmaps", ending="bmp")
    found = [splits_of(tmp_path / name, tmp_path / f"data-{name}") for name in ("pets", "copy", "bitmaps")]
    assert len({one.source for one in found}) == 1
    assert found[0].fingerprint != found[1].fingerprint  # the cache's key: a look at names and times


@pytest.mark.parametrize("change", ["pixel", "label", "class name", "an image less"])
def test_other_content_under_the_same_name_has_another_source(tmp_path, change):
    before, after = fill(tmp_path / "a" / "two"), fill(tmp_path / "b" / "two")
    if change == "pixel":
        pixels = np.asarray(Image.open(after / "left" / "3.png")).copy()
        pixels[2, 2, 1] ^= 1
        Image.fromarray(pixels).save(after / "left" / "3.png")
    elif change == "label":
        (after / "left" / "3.png").rename(after / "right" / "9.png")
    elif change == "class name":
        (after / "left").rename(after / "links")
    else:
        (after / "left" / "3.png").unlink()
    assert slug(f"folder:{before}") == slug(f"folder:{after}")
    assert splits_of(before, tmp_path).source != splits_of(after, tmp_path).source


def test_composed_and_decomposed_letters_in_class_names_are_one_source(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), np.uint8)
    parts = {"train": Part(images, np.arange(20) % 2)}
    names = [("caf\u00e9", "x"), ("cafe\u0301", "x")]
    sources = [Source(parts, classes, str(i), 6, INFO) for i, classes in enumerate(names)]
    assert len({split_source(one, "toy", tmp_path).source for one in sources}) == 1


def test_a_prepared_dataset_is_not_read_again_for_its_digest(tmp_path):
    first = split_source(told(), "toy", tmp_path)
    source = told()
    again = split_source(source, "toy", tmp_path)
    assert again.source == first.source
    assert source.parts["train"].images.num == 0


def test_a_cache_from_before_there_were_digests_is_read_once_more_and_then_knows(tmp_path, capsys):
    expected = split_source(told(), "toy", tmp_path).source
    (card,) = tmp_path.glob("cache/toy-*/card.json")
    kept = {name: value for name, value in read_json(card).items() if name not in ("source", "format")}
    write_json(card, kept)
    source = told()
    assert split_source(source, "toy", tmp_path).source == expected
    assert source.parts["train"].images.num == 300
    assert "once more" in capsys.readouterr().err
    again = told()
    assert split_source(again, "toy", tmp_path).source == expected
    assert again.parts["train"].images.num == 0


def test_a_preparation_that_was_stopped_and_continued_finds_the_same_digest(tmp_path):
    expected = split_source(told(), "toy", tmp_path / "straight").source
    with pytest.raises(KeyboardInterrupt):
        split_source(told(stop=200), "toy", tmp_path / "stopped")
    source = told()
    assert split_source(source, "toy", tmp_path / "stopped").source == expected
    assert source.parts["train"].images.num < 300  # it was continued


def test_a_finished_cache_keeps_no_file_of_digests(tmp_path):
    split_source(told(), "toy", tmp_path)
    assert not list(tmp_path.rglob("digests.npy"))


def test_scenes_that_are_drawn_anew_for_each_size_are_two_sources():
    sources = [data.source_of(name, Path()) for name in ("shapes32", "shapes64")]
    assert len({cache.content_digest(one, Path(), "", 0) for one in sources}) == 2


def test_samples_are_had_at_the_datasets_own_size(tmp_path):
    fill(tmp_path / "pets")
    own, large = splits_of(tmp_path / "pets", tmp_path), splits_of(tmp_path / "pets", tmp_path, image_size=16)
    assert large.samples.images.shape[1] == 16
    stored = large.samples_to_store()
    for name in ("images", "labels", "ids"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(own.samples, name))
    assert large.samples_fingerprint == own.samples_fingerprint == own.fingerprint


def test_samples_of_images_that_differ_in_size_are_had_at_the_size_asked_for(tmp_path):
    fill(tmp_path / "pets")
    Image.new("RGB", (9, 30)).save(tmp_path / "pets" / "left" / "long.png")
    splits = splits_of(tmp_path / "pets", tmp_path, image_size=16)
    assert splits.own_size is None and splits.samples_to_store().images.shape[1] == 16
    assert splits.samples_fingerprint == splits.fingerprint


def test_masks_are_had_at_the_datasets_own_size_too(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), np.uint8)
    source = Source({"train": Part(images, np.arange(40) % 2, images[..., 0] > 99)}, CLASSES, "ab", 6, INFO)
    stored = split_source(source, "toy", tmp_path, image_size=9).samples_to_store()
    np.testing.assert_array_equal(stored.masks, images[stored.ids][..., 0] > 99)


def test_a_readers_own_digest_is_taken_as_it_is(tmp_path):
    source = dataclasses.replace(told(), digest="0123456789abcdef")
    assert split_source(source, "toy", tmp_path).source == "0123456789abcdef"


def test_a_finished_run_on_a_folder_does_not_count_for_other_images_in_its_place(tmp_path):
    fill(tmp_path / "two")
    config = TrainConfig(dataset=f"folder:{tmp_path / 'two'}", model="test_resnet", val_fraction=0.25)
    options = RunOptions(artifacts=tmp_path / "store", data=tmp_path / "data")
    splits = data.load(config.dataset, options.data, val_fraction=0.25)
    run = options.artifacts / "runs" / "a"
    RunWriter.create(run, {"config": dataclasses.asdict(config), "key": config.key, "source": splits.source})
    store = Store(options.artifacts)
    write_json(run / "summary.json", {"key": config.key, "best": add_model(store, splits, "test_resnet").reference})
    assert pipeline.finished(config, options)
    shutil.rmtree(tmp_path / "two")
    assert pipeline.finished(config, options)  # the folder is gone, the model is not
    fill(tmp_path / "two", seed=1)
    assert not pipeline.finished(config, options)
