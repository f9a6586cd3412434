"""References lead to the version they mean; broken versions are shown as broken; two writers do not collide."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_checkpoint import make_card

from cvx import data, models
from cvx.data import slug
from cvx.store import Store, collection


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return models.build("resnet18", 3, 8, 1, stem="timm")


def add(store, classifier, acc1, run="r", role="best", **changes):
    card = make_card(classifier, metrics={"val/acc1": acc1}, run=run, role=role, **changes)
    return store.add_model(classifier, card)


def test_versions_count_up_and_aliases_follow_time_and_validation_accuracy(tmp_path, classifier):
    store = Store(tmp_path)
    add(store, classifier, 0.5, "a")
    add(store, classifier, 0.9, "b")
    add(store, classifier, 0.7, "c")
    assert [entry.reference for entry in store.models()] == [f"digits-resnet18:v{k}" for k in range(3)]
    assert store.resolve("digits-resnet18").version == 1
    assert store.resolve("digits-resnet18:best").version == 1
    assert store.resolve("digits-resnet18:latest").version == 2
    assert store.resolve("digits-resnet18:v0").version == 0
    assert store.resolve("digits-resnet18@c").version == 2
    assert [entry.version for entry in store.best()] == [1]


def test_the_last_weights_of_a_run_never_outrank_its_best(tmp_path, classifier):
    store = Store(tmp_path)
    add(store, classifier, 0.5, role="best")
    last = add(store, classifier, 0.9, role="last")
    assert last.aliases == ("latest",)
    assert store.resolve("digits-resnet18").version == 0
    assert store.resolve("digits-resnet18@r").version == 0


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("digits-resnet81", "did you mean 'digits-resnet18'"),
        ("digits-resnet18:v7", "digits-resnet18:v0"),
        ("digits-resnet18:production", "best"),
        ("digits-resnet18@nobody", "digits-resnet18:v0"),
        ("../models/digits-resnet18", "no model"),
        ("", "no model"),
    ],
)
def test_a_reference_to_nothing_says_what_there_is(tmp_path, classifier, reference, said):
    store = Store(tmp_path)
    add(store, classifier, 0.5)
    with pytest.raises(ValueError, match=said):
        store.resolve(reference)


def test_an_empty_store_says_how_to_fill_it(tmp_path):
    assert Store(tmp_path / "nowhere").models() == []
    with pytest.raises(ValueError, match="python -m cvx starter"):
        Store(tmp_path / "nowhere").resolve("digits-resnet18")


def test_a_broken_version_is_listed_with_its_error_and_the_others_work(tmp_path, classifier):
    store = Store(tmp_path)
    add(store, classifier, 0.9, "a")
    add(store, classifier, 0.5, "b")
    (tmp_path / "models/digits-resnet18/v0/card.json").write_text("{")
    broken, whole = store.models()
    assert broken.card is None and "damaged" in broken.error
    assert whole.card is not None
    assert [entry.version for entry in store.best()] == [1]
    whole.load()


def test_lost_aliases_lose_only_the_names(tmp_path, classifier):
    store = Store(tmp_path)
    add(store, classifier, 0.9)
    (tmp_path / "models/digits-resnet18/aliases.json").write_text("garbage")
    assert store.resolve("digits-resnet18").version == 0
    add(store, classifier, 0.1, "b")
    assert store.resolve("digits-resnet18:latest").version == 1


def test_the_same_weights_of_the_same_run_are_stored_once(tmp_path, classifier):
    store = Store(tmp_path)
    first, second = add(store, classifier, 0.5), add(store, classifier, 0.5)
    assert first.reference == second.reference and len(store.models()) == 1


def test_a_name_that_would_leave_the_store_is_refused(tmp_path, classifier):
    with pytest.raises(ValueError, match="letters, digits"):
        Store(tmp_path).add_model(classifier, make_card(classifier, name="../outside"))
    assert not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10", "cifar10"),
        ("tiny_imagenet", "tiny_imagenet"),
        ("folder:/home/me/My Birds", "folder-my-birds"),
        ("hub:org/some-name", "hub-org-some-name"),
        ("hf_hub:timm/resnet18.a1_in1k", "hf_hub-timm-resnet18.a1_in1k"),
    ],
)
def test_slugs_hold_only_what_wandb_allows(name, expected):
    assert slug(name) == expected


def test_collections_are_named_by_dataset_and_model():
    assert collection("tiny_imagenet", "vit_small") == "tiny_imagenet-vit_small"


WRITER = """
import dataclasses, sys, torch
sys.path.insert(0, sys.argv[1])
from test_checkpoint import make_card
from cvx import models
from cvx.store import Store
classifier = models.build("resnet18", 3, 8, 1, stem="timm")
for k in range(3):
    card = make_card(classifier, run=f"{sys.argv[3]}-{k}", metrics={"val/acc1": 0.1 * k})
    Store(sys.argv[2]).add_model(classifier, card)
"""


@pytest.mark.slow
def test_writers_at_the_same_time_lose_no_version(tmp_path):
    here = str((__import__("pathlib").Path(__file__)).parent)
    command = [sys.executable, "-c", WRITER, here, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(k)]) for k in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    entries = Store(tmp_path).models()
    assert sorted(entry.version for entry in entries) == list(range(9))
    assert sorted(entry.card.run for entry in entries) == sorted(f"{w}-{k}" for w in range(3) for k in range(3))
    assert {entry.card.run.split("-")[1] for entry in entries if "best" in entry.aliases} == {"2"}
    assert not list((tmp_path / "models/digits-resnet18").glob(".tmp-*"))


def test_samples_are_stored_once_and_come_back_with_their_order(tmp_path, data_root):
    splits = data.load("digits", data_root)
    store = Store(tmp_path)
    store.add_samples(splits)
    again = store.add_samples(splits)
    assert again.folder.name == "v0"
    found = store.samples("digits", splits.fingerprint)
    np.testing.assert_array_equal(found.split.images, splits.test.images[:5000])
    np.testing.assert_array_equal(found.split.labels, splits.test.labels[:5000])
    assert found.classes == splits.classes and store.datasets() == ["digits"]
    assert np.load(found.folder / "images.npy").dtype == np.uint8


def test_another_size_of_a_dataset_is_another_version_of_its_samples(tmp_path, data_root):
    store = Store(tmp_path)
    small, large = data.load("digits", data_root), data.load("digits", data_root, image_size=16)
    store.add_samples(small)
    store.add_samples(large)
    assert store.samples("digits", small.fingerprint).split.images.shape[1] == 8
    assert store.samples("digits", large.fingerprint).split.images.shape[1] == 16
    assert store.samples("digits").split.images.shape[1] == 16
    np.testing.assert_array_equal(
        store.samples("digits", small.fingerprint).split.ids, store.samples("digits", large.fingerprint).split.ids
    )


def test_missing_or_damaged_samples_are_named(tmp_path, data_root):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="no samples of 'digits'.*none"):
        store.samples("digits")
    folder = store.add_samples(data.load("digits", data_root)).folder
    (folder / "images.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        store.samples("digits")
    card = folder / "card.json"
    card.write_text(json.dumps({"format": 1}))
    with pytest.raises(ValueError, match=r"damaged|no samples"):
        store.samples("digits")


def test_a_card_is_plain_data(classifier):
    json.dumps(dataclasses.asdict(make_card(classifier)))


def test_samples_of_another_state_of_the_dataset_are_told_from_none(tmp_path, data_root):
    store = Store(tmp_path)
    store.add_samples(data.load("digits", data_root))
    with pytest.raises(
        ValueError, match=r"has samples of 'digits', but not those that fit this model \(fingerprint 0000"
    ):
        store.samples("digits", "0000")
