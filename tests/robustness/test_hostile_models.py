"""Malicious cards, weights and names do nothing: no code runs, nothing outside is touched, no memory is spent."""

import dataclasses
import json
import pickle
import resource
import shutil
import struct

import numpy as np
import pytest
from damage import JSON, SECRET, fuzz, mutations
from hypothesis import given
from hypothesis import strategies as st
from kept_store import make_kept_store, state_of, text_of
from small_store import NASTY, add_model, make_splits

from cvx.files import write_json
from cvx.store import Store, checkpoint
from cvx.store.checkpoint import DamagedError
from cvx.store.maintenance import examine


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_kept_store(tmp_path_factory.mktemp("kept") / "store").root


# cards


@pytest.fixture(scope="module")
def version(whole):
    return whole / "models/tiles-vit_mini/v0"


@pytest.fixture
def copied(version, tmp_path):
    return shutil.copytree(version, tmp_path / "v0")


def with_card(folder, **changes):
    write_json(folder / "card.json", {**text_of(folder / "card.json"), **changes})


def with_build(folder, **changes):
    with_card(folder, build={**text_of(folder / "card.json")["build"], **changes})


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "vit_giant_patch14_224",
        "hf_hub:somebody/model",
        "local-dir:/etc",
        "../../etc/passwd",
        "",
        "x" * 10_000,
    ],
)
def test_a_card_that_names_another_model_is_refused_before_memory_is_spent_on_it(copied, name):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with_build(copied, name=name)
    with pytest.raises(DamagedError, match="does not fit the model its card names"):
        checkpoint.load(copied)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "kB; that model alone has 4.6 GB"


def test_a_card_with_a_hundred_thousand_classes_is_refused_before_memory_is_spent_on_it(copied):
    with_card(copied, classes=[str(k) for k in range(100_000)])
    with_build(copied, num_classes=100_000)
    with pytest.raises(DamagedError, match="of another shape, first"):
        checkpoint.load(copied)


@pytest.mark.parametrize(
    "build",
    [
        {"code": "import os"},
        {"pretrained": "yes"},
        {"patch_size": 10**12},
        {"num_classes": 4.0, "x": 1},
        {"drop_path": "nan"},
    ],
)
def test_build_arguments_that_nobody_wrote_are_refused_or_mean_nothing(copied, build):
    with_build(copied, **build)
    if build == {"pretrained": "yes"}:
        checkpoint.load(copied)  # weights come from the folder alone
        return
    with pytest.raises(DamagedError):
        checkpoint.load(copied)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": 4096}, "image_size is 4096, but build says 16"),
        ({"in_chans": 1, "mean": [0.5], "std": [0.5]}, "in_chans is 1, but build says 3"),
        ({"metrics": {"val/acc1": "<script>"}}, "metrics must be numbers, got str"),
        ({"metrics": {"val/acc1": {}}}, "metrics must be numbers, got dict"),
        ({"std": [0, 1, 1]}, "std positive"),
        ({"mean": ["a", 1, 1]}, "finite"),
        ({"classes": ["a", 2, "c", "d"]}, "class names"),
        ({"classes": ["one"]}, "2 to 100,000"),
        ({"classes": "abcd"}, "classes must be tuple"),
    ],
)
def test_a_card_whose_fields_contradict_each_other_is_refused(copied, changes, said):
    with_card(copied, **changes)
    with pytest.raises(DamagedError, match=f"{said}|Type-check error"):  # in tests annotations are checked even before
        checkpoint.read_card(copied)


def test_a_model_whose_accuracy_was_no_number_does_not_stand_in_the_way_of_the_next(whole, tmp_path):
    root = shutil.copytree(whole, tmp_path / "store")
    for version in (0, 1):
        with_card(root / f"models/tiles-vit_mini/v{version}", metrics={"val/acc1": None})
    assert "best" in add_model(Store(root), make_splits("tiles", 40, 16, 3, True), "vit_mini", seed=5).aliases


def test_class_names_that_are_code_come_back_as_they_are_and_do_nothing(copied):
    names = [NASTY, "<script>alert(1)</script>", "../../x", "{0.__class__}"]
    with_card(copied, classes=names)
    assert list(checkpoint.load(copied)[1].classes) == names


def test_a_card_of_a_newer_format_says_so(copied):
    write_json(copied / "card.json", {**text_of(copied / "card.json"), "format": 2})
    with pytest.raises(DamagedError, match=r"format 2.*install a newer cvx"):
        checkpoint.read_card(copied)


@fuzz
@given(data=st.data())
def test_a_card_with_any_field_changed_is_read_or_refused_and_nothing_else(version, tmp_path, data):
    content = text_of(version / "card.json")
    where = content if data.draw(st.booleans()) else content["build"]
    where[data.draw(st.sampled_from(sorted(where)))] = data.draw(JSON)
    folder = tmp_path / "fuzzed"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(version / "model.safetensors", folder / "model.safetensors")
    (folder / "card.json").write_text(json.dumps(content))
    try:
        _, card = checkpoint.load(folder)
    except DamagedError:
        return
    assert len(card.classes) == 4


@fuzz
@given(data=st.data())
def test_a_card_of_any_bytes_is_read_or_refused(version, tmp_path, data):
    folder = tmp_path / "fuzzed"
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_bytes(data.draw(mutations((version / "card.json").read_bytes())))
    try:
        checkpoint.read_card(folder)
    except DamagedError as error:
        assert str(folder) in str(error)


@fuzz
@given(data=st.data())
def test_weights_of_any_bytes_are_refused_even_if_the_card_has_their_digest(version, tmp_path, data):
    folder = tmp_path / "fuzzed"
    folder.mkdir(exist_ok=True)
    content = (version / "model.safetensors").read_bytes()
    head = 8 + struct.unpack("<Q", content[:8])[0]
    (folder / "model.safetensors").write_bytes(data.draw(mutations(content[:head])) + content[head:])
    card = text_of(version / "card.json")
    write_json(folder / "card.json", {**card, "sha256": checkpoint.digest(folder / "model.safetensors")})
    try:
        checkpoint.load(folder)  # a change of a number's bytes alone gives other weights, which are weights
    except DamagedError as error:
        assert str(folder) in str(error)


def test_a_pickle_in_place_of_weights_is_not_executed(copied, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    (copied / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with_card(copied, sha256=checkpoint.digest(copied / "model.safetensors"))
    with pytest.raises(DamagedError):
        checkpoint.load(copied)
    assert not (tmp_path / "executed").exists()


def test_a_pickle_in_place_of_a_runs_frame_or_of_samples_is_not_executed(whole, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    root = shutil.copytree(whole, tmp_path / "store")
    frame = next(root.glob("runs/*/film/0001.npz"))
    np.savez(frame, attribution=np.array([Bomb()], dtype=object))
    np.save(root / "samples/tiles/v0/labels.npy", np.array([Bomb()] * 40, dtype=object), allow_pickle=True)
    assert {frame, root / "samples/tiles/v0"} <= {one.where for one in examine(root) if one.level == "problem"}
    with pytest.raises(ValueError, match="damaged"):
        Store(root).samples("tiles")
    assert not (tmp_path / "executed").exists()


def test_a_card_is_made_of_the_fields_that_are_fuzzed(version):
    assert {field.name for field in dataclasses.fields(checkpoint.Card)} <= set(text_of(version / "card.json"))


# names


@pytest.mark.parametrize(
    "reference",
    ["../outside", "tiles-vit_mini/../../outside", "/etc", "..", ".", "models\\x", "tiles-vit_mini:../v0", "a\0b", "~root",
     "tiles-vit_mini@../x", "tiles-vit_mini:v0/..", "x" * 5000, "tiles-vit_mini:v" + "9" * 5000],
)  # fmt: skip
def test_a_reference_that_would_lead_outside_finds_nothing(whole, tmp_path, reference):
    root = shutil.copytree(whole, tmp_path / "store")
    shutil.copytree(root / "models/tiles-vit_mini", tmp_path / "outside")
    before = state_of(tmp_path)
    with pytest.raises(ValueError):
        Store(root).resolve(reference)
    assert state_of(tmp_path) == before


def test_a_model_from_elsewhere_cannot_choose_a_place_outside(whole, copied, tmp_path):
    root = shutil.copytree(whole, tmp_path / "store")
    before = state_of(tmp_path)
    for name in ("../outside", "/tmp/x", "a/b", ".hidden", "..", ""):
        with_card(copied, name=name)
        changed = state_of(copied)
        with pytest.raises(ValueError):
            Store(root).adopt_model(copied, "somebody/project/model:v0")
        assert state_of(copied) == changed
    assert {key: value for key, value in state_of(tmp_path).items() if not key.startswith("v0")} == {
        key: value for key, value in before.items() if not key.startswith("v0")
    }


def test_samples_from_elsewhere_bring_no_other_files_with_them(whole, tmp_path):
    source = shutil.copytree(whole / "samples/tiles/v0", tmp_path / "given")
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    (source / "extra.txt").symlink_to(secret)
    write_json(source / "card.json", {**text_of(source / "card.json"), "fingerprint": "another"})
    found = Store(tmp_path / "store").adopt_samples(source)
    assert sorted(path.name for path in found.folder.iterdir()) == [
        "card.json",
        "ids.npy",
        "images.npy",
        "labels.npy",
        "masks.npy",
    ]
