"""References lead to the version they mean; broken versions are shown as broken; two writers do not collide."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cards import make_card
from small_store import make_splits

from cvx import data, models
from cvx.names import slug
from cvx.store import Store, checkpoint
from cvx.store.store import collection


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
from small_cards import make_card
from cvx import models
from cvx.store import Store
classifier = models.build("resnet18", 3, 8, 1, stem="timm")
for k in range(3):
    card = make_card(classifier, run=f"{sys.argv[3]}-{k}", metrics={"val/acc1": 0.1 * k})
    Store(sys.argv[2]).add_model(classifier, card)
"""


@pytest.mark.slow
def test_writers_at_the_same_time_lose_no_version(tmp_path):
    here = str(Path(__file__).parents[1] / "support")
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


def test_samples_are_kept_once_at_the_datasets_own_size_whatever_was_trained(tmp_path, data_root):
    store = Store(tmp_path)
    small, large = data.load("digits", data_root), data.load("digits", data_root, image_size=16)
    stored = [store.add_samples(splits) for splits in (large, small)]
    assert [one.reference for one in stored] == ["digits:v0", "digits:v0"]
    np.testing.assert_array_equal(stored[0].split.images, small.test.images[:5000])
    np.testing.assert_array_equal(stored[0].split.ids, large.test.ids[:5000])
    assert stored[0].source == small.source == large.source
    assert store.samples("digits", large.samples_fingerprint).reference == "digits:v0"


def test_samples_are_found_by_name_and_version(tmp_path):
    store = Store(tmp_path)
    for size in (8, 16):
        store.add_samples(make_splits("tiles", 40, size, 3, True))
    store.add_samples(dataclasses.replace(make_splits("dots", 24, 8, 1, False), name="folder:~/my dots"))
    assert store.sample_sets() == ["folder-my-dots:v0", "tiles:v1", "tiles:v0"]
    assert [store.find_samples(name).split.images.shape[1] for name in ("tiles", "tiles:v0", "tiles:v1")] == [16, 8, 16]
    assert store.find_samples("folder:/elsewhere/my dots").reference == "folder-my-dots:v0"
    for name in ("tiles:v2", "cars", "../samples/tiles", ""):
        with pytest.raises(ValueError, match=r"no samples .*known: folder-my-dots:v0, tiles:v1, tiles:v0"):
            store.find_samples(name)


def test_a_copy_of_the_dataset_gives_its_models_the_same_samples(tmp_path, classifier):
    store = Store(tmp_path)
    splits = dataclasses.replace(make_splits("tiles", 40, 16, 3, True), source="5ca1ab1e00000000")
    store.add_samples(splits)
    card = make_card(classifier, dataset="folder:copy", samples="another look at names and times")
    with pytest.raises(ValueError, match="no samples of 'folder:copy'"):
        store.samples_of(card)
    same = dataclasses.replace(card, source=splits.source)
    assert store.samples_of(same).reference == "tiles:v0"


A, B = "aaaaaa1111111111", "bbbbbb2222222222"


def test_models_of_two_sources_do_not_share_a_name_nor_a_best(tmp_path, classifier):
    store = Store(tmp_path)
    first = add(store, classifier, 0.9, run="a", source=A)
    second = add(store, classifier, 0.2, run="b", source=B)
    third = add(store, classifier, 0.3, run="c", source=B)
    assert [one.reference for one in (first, second, third)] == [
        "digits-resnet18:v0",
        "digits-resnet18-bbbbbb:v0",
        "digits-resnet18-bbbbbb:v1",
    ]
    assert second.card.name == second.name
    assert {one.reference for one in store.best()} == {first.reference, third.reference}
    assert add(store, classifier, 0.2, run="b", source=B).reference == second.reference
    assert add(store, classifier, 0.1, run="d", source=A).reference == "digits-resnet18:v1"


def test_models_from_before_there_were_digests_keep_their_name_and_are_joined(tmp_path, classifier):
    store = Store(tmp_path)
    add(store, classifier, 0.9, run="old")
    assert add(store, classifier, 0.5, run="new", source=A).reference == "digits-resnet18:v1"
    assert add(store, classifier, 0.5, run="older").reference == "digits-resnet18:v2"
    assert add(store, classifier, 0.5, run="other", source=B).reference == "digits-resnet18-bbbbbb:v0"


def test_a_name_of_the_users_own_is_no_place_for_two_sources_either(tmp_path, classifier):
    store = Store(tmp_path)
    names = [add(store, classifier, 0.5, run=source, name="mine", source=source).name for source in (A, B)]
    assert names == ["mine", "mine-bbbbbb"]
    assert add(store, classifier, 0.5, run="c", name="mine-bbbbbb", source=A).name == "mine-bbbbbb-aaaaaa"


def test_of_two_processes_with_two_sources_the_later_takes_the_longer_name(tmp_path, classifier, monkeypatch):
    store, save = Store(tmp_path), checkpoint.save
    passed = []

    def save_late(folder, model, card):
        if not passed:
            passed.append(True)
            add(store, classifier, 0.9, run="a", source=A)  # another process, while this one's weights are written
        return save(folder, model, card)

    monkeypatch.setattr(checkpoint, "save", save_late)
    late = add(store, classifier, 0.9, run="b", source=B)
    assert late.reference == "digits-resnet18-bbbbbb:v0" and late.card.name == late.name
    assert [entry.reference for entry in store.models()] == ["digits-resnet18:v0", "digits-resnet18-bbbbbb:v0"]


def test_a_model_from_elsewhere_joins_its_own_source_only(tmp_path, classifier):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    add(here, classifier, 0.9, run="a", source=A)
    given = add(there, classifier, 0.5, run="b", source=B)
    adopted = [here.adopt_model(given.folder, "e/p/digits-resnet18:v0") for _ in range(2)]
    assert {one.reference for one in adopted} == {"digits-resnet18-bbbbbb:v0"}
    assert adopted[0].card.name == adopted[0].name


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
