"""The tree of maps: what lies where, that it holds the true gradients, and that it is whole or not at all."""

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from explained_store import NAMES, add, splits_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cvx import models
from cvx.data.dataset_types import NUM_GALLERY
from cvx.maps import figures
from cvx.maps.map_folder import explain, file_stems, folder_name, side_by_side
from cvx.maps.request import Question
from cvx.store import ModelEntry, Store
from cvx.store.checkpoint import describe


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "artifacts")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_models_folder_holds_a_figure_per_image_a_page_per_class_and_the_raw_maps(store):
    entry = add(store, splits_of())
    (answer,) = explain(store, ["pets-net"], Question(per_class=2))
    assert answer.reference == entry.reference and answer.num_figures == 8
    assert answer.folder == store.root / "attributions" / "pets" / "pets-net"
    stems = file_stems(NAMES)
    figures_and_files = [f"{stem}_{i}.png" for stem in stems for i in (0, 1)] + [
        "maps.npz",
        "card.json",
        "classes",
    ]
    assert names_in(answer.folder) == sorted(figures_and_files)
    assert names_in(answer.folder / "classes") == sorted(f"{stem}.png" for stem in stems)
    assert names_in(answer.folder.parent) == ["pets-net"]
    for path in answer.folder.rglob("*.png"):
        image = Image.open(io.BytesIO(path.read_bytes()))
        assert image.mode == "RGB" and min(image.size) > 200


def test_the_raw_maps_are_the_gradients_of_the_label_logits_of_the_images_drawn(store):
    splits = splits_of()
    entry = add(store, splits)
    (answer,) = explain(store, ["pets-net"], Question(per_class=2))
    raw = np.load(answer.folder / "maps.npz")
    assert sorted(raw) == ["attribution", "ids", "labels", "logits", "targets"]
    rows = raw["ids"] - 100
    assert np.array_equal(raw["labels"], splits.test.labels[rows])
    assert np.array_equal(raw["targets"], raw["labels"])
    classifier, _ = entry.load()
    inputs = torch.from_numpy(splits.test.images[rows]).permute(0, 3, 1, 2).float().div(255).requires_grad_()
    logits = classifier(inputs)
    (gradient,) = torch.autograd.grad(logits.gather(1, torch.from_numpy(raw["targets"])[:, None]).sum(), inputs)
    assert raw["attribution"].dtype == np.float32
    assert np.allclose(raw["logits"], logits.detach(), atol=1e-5)
    assert np.allclose(raw["attribution"], gradient, atol=1e-5 * gradient.abs().max().item())


def test_the_card_says_what_was_asked_of_which_weights(store):
    entry = add(store, splits_of(masks=True))
    (answer,) = explain(store, ["pets-net"], Question(score="margin", reduction="signed"))
    card = json.loads((answer.folder / "card.json").read_text())
    assert card["format"] == 1 and card["model"] == entry.reference and card["sha256"] == entry.card.sha256
    assert (card["score"], card["reduction"], card["targets"]) == ("margin", "signed", "label")
    assert card["unit"] == "centered logit per unit pixel"
    assert list(card["facts"]) == list(NAMES) and card["facts"]["cat"]["mask_share"] == 0.5


@pytest.mark.parametrize(
    ("aliases", "question", "name"),
    [
        (("best", "latest"), {}, "pets-net"),
        (("best",), {"num": 5, "per_class": 1}, "pets-net"),
        (("latest",), {}, "pets-net@v3-label"),
        ((), {"targets": "pred"}, "pets-net@v3-pred"),
        (("best",), {"targets": "pred"}, "pets-net@v3-pred"),
        (("best",), {"targets": "a/b: c"}, "pets-net@v3-a-b-c"),
        (("best",), {"split": "val", "score": "logprob"}, "pets-net@v3-label-logprob-val"),
        (("best",), {"method": "smoothgrad", "reduction": "signed"}, "pets-net@v3-label-smoothgrad-signed"),
    ],
)
def test_a_folder_without_suffix_is_the_best_weights_and_the_default_question(tmp_path, aliases, question, name):
    assert folder_name(ModelEntry("pets-net", 3, tmp_path, aliases), Question(**question)) == name


@given(st.lists(st.text(max_size=90), max_size=12))
def test_file_names_of_classes_are_distinct_and_safe_on_every_file_system(classes):
    stems = file_stems(classes)
    assert len({stem.casefold() for stem in stems}) == len(classes)
    for stem in stems:
        assert 0 < len(stem) < 90 and not set(stem) & set('/\\:*?"<>| \n\t\0') and stem[0] not in ".-"


def test_ordinary_class_names_stay_as_they_are():
    assert file_stems(["0", "ankle_boot", "T-shirt", "Größe", "v1.5"]) == [
        "0",
        "ankle_boot",
        "T-shirt",
        "Größe",
        "v1.5",
    ]


@pytest.mark.parametrize("field", ["split", "score", "method", "reduction"])
def test_a_wrong_choice_is_an_error_that_lists_the_right_ones(field):
    with pytest.raises(ValueError, match=f"unknown {field} 'sideways'; known: {getattr(Question(), field)}"):
        Question(**{field: "sideways"})


@pytest.mark.parametrize("field", ["num", "per_class"])
def test_a_negative_count_is_an_error(field):
    with pytest.raises(ValueError, match=rf"{field} must be 0 \(all\) or more, got -1"):
        Question(**{field: -1})


def test_the_images_looked_at_are_those_of_the_gallery():
    assert Question().num == NUM_GALLERY


def test_zero_takes_every_image(store):
    add(store, splits_of())
    assert explain(store, ["pets-net"], Question(num=0, per_class=0))[0].num_figures == 12
    assert explain(store, ["pets-net"], Question(num=5, per_class=0))[0].num_figures == 5


def test_predicted_targets_are_what_the_model_says(store):
    add(store, splits_of())
    (answer,) = explain(store, ["pets-net"], Question(targets="pred"))
    raw = np.load(answer.folder / "maps.npz")
    assert np.array_equal(raw["targets"], raw["logits"].argmax(1))


def test_a_class_by_name_is_everybodys_target(store):
    add(store, splits_of())
    (answer,) = explain(store, ["pets-net"], Question(targets="owl"))
    assert set(np.load(answer.folder / "maps.npz")["targets"].tolist()) == {3}
    with pytest.raises(ValueError, match=r"unknown class 'cow'; pets-net knows 'cat', 'a/b: c', 'A-B-c', 'owl'"):
        explain(store, ["pets-net"], Question(targets="cow"))


def test_a_new_answer_takes_the_place_of_the_old_one_whole(store):
    add(store, splits_of())
    (first,) = explain(store, ["pets-net"], Question(per_class=3))
    (second,) = explain(store, ["pets-net"], Question(per_class=1))
    assert first.folder == second.folder and (second.folder / "cat_0.png").exists()
    assert not (second.folder / "cat_1.png").exists() and names_in(second.folder.parent) == ["pets-net"]


def test_a_failure_half_way_leaves_the_old_answer_and_nothing_else(store, monkeypatch):
    add(store, splits_of())
    (answer,) = explain(store, ["pets-net"], Question(per_class=2))
    before = {path: path.read_bytes() for path in answer.folder.rglob("*.*")}
    draw = figures.class_page

    def full_disk(views, *rest):
        if views[0].class_name == "owl":
            raise OSError(28, "No space left on device")
        return draw(views, *rest)

    monkeypatch.setattr(figures, "class_page", full_disk)
    with pytest.raises(OSError, match="No space left"):
        explain(store, ["pets-net"], Question(per_class=1))
    assert {path: path.read_bytes() for path in answer.folder.rglob("*.*")} == before
    assert names_in(answer.folder.parent) == ["pets-net"]


def test_nothing_is_drawn_if_one_of_the_references_is_wrong(store):
    add(store, splits_of())
    with pytest.raises(ValueError, match=r"no model 'pets-nett'.*did you mean 'pets-net'"):
        explain(store, ["pets-net", "pets-nett"])
    assert not (store.root / "attributions").exists()


def test_a_damaged_model_is_an_error_that_names_it(store):
    entry = add(store, splits_of())
    (entry.folder / "card.json").write_text("{")
    with pytest.raises(ValueError, match=r"card\.json is damaged"):
        explain(store, ["pets-net"])


def test_labels_that_the_model_does_not_know_are_an_error(store):
    entry = add(store, splits_of())
    classifier, card = entry.load()
    classes = ("cat", "car", "bus", "tram")
    store.add_model(classifier, dataclasses.replace(card, name="imported", classes=classes))
    with pytest.raises(ValueError, match=r"has no class 'a/b: c'"):
        explain(store, ["imported"])
    assert explain(store, ["imported"], Question(targets="pred"))[0].num_figures == 12


def zero_head(classifier):
    for parameter in classifier.net.get_classifier().parameters():
        parameter.zero_()


def test_maps_that_are_zero_everywhere_are_drawn_counted_and_kept(store):
    add(store, splits_of(), change=zero_head)
    for reduction in ("max", "signed"):
        (answer,) = explain(store, ["pets-net"], Question(reduction=reduction))
        assert [view.num_zero for view in answer.views] == [3, 3, 3, 3]
        assert not np.load(answer.folder / "maps.npz")["attribution"].any()
        facts = json.loads((answer.folder / "card.json").read_text())["facts"]
        assert facts["cat"]["center_bias"] is None


def test_models_of_one_dataset_stand_side_by_side_and_others_do_not(store):
    add(store, splits_of())
    add(store, splits_of(), model="other", seed=1)
    add(store, splits_of("cars"))
    answers = explain(store, ["pets-net", "pets-other", "cars-net"], Question(per_class=1))
    (folder,) = side_by_side(answers)
    assert folder == store.root / "attributions" / "pets" / "pets-net+pets-other"
    assert names_in(folder) == sorted(f"{stem}.png" for stem in file_stems(NAMES))
    with Image.open(answers[0].folder / "classes" / "cat.png") as alone, Image.open(folder / "cat.png") as both:
        assert both.width == alone.width and both.height > alone.height + 2 * 96


def test_models_of_other_input_sizes_stand_side_by_side_too(store):
    add(store, splits_of())
    add(store, splits_of(size=16), model="large")
    answers = explain(store, ["pets-net", "pets-large"], Question(per_class=1))
    assert [answer.views[0].maps.shape[1] for answer in answers] == [8, 16]
    assert len(side_by_side(answers)) == 1


def test_looks_at_different_images_do_not_stand_side_by_side(store):
    add(store, splits_of())
    add(store, splits_of(), model="other", seed=1)
    few = explain(store, ["pets-net"], Question(num=4, per_class=1))
    many = explain(store, ["pets-other"], Question(num=8, per_class=1))
    assert side_by_side([*few, *many]) == []


def test_many_models_side_by_side_have_a_short_folder_name(store):
    add(store, splits_of(num=4), model="n" * 50)
    add(store, splits_of(num=4), model="m" * 50)
    (folder,) = side_by_side(explain(store, [f"pets-{'n' * 50}", f"pets-{'m' * 50}"]))
    assert len(folder.name) < 60 or folder.name.count("+") == 1


def test_a_reference_given_twice_is_drawn_once(store):
    add(store, splits_of(num=4))
    assert len(explain(store, ["pets-net", "pets-net:v0", "pets-net:best"])) == 1


def test_other_splits_need_the_dataset_and_changed_data_is_said(store, data_root):
    from cvx import data

    splits = data.load("digits", data_root)
    torch.manual_seed(0)
    classifier = models.build("resnet10t", 10, 8, 1, mean=splits.mean, std=splits.std).eval()
    card = describe(classifier, splits, name="digits-net", dataset="digits", model="net")
    store.add_model(classifier, card)
    question = Question(split="val", num=20, per_class=1)
    with pytest.raises(ValueError, match="the split 'val' needs the dataset"):
        explain(store, ["digits-net"], question)
    (answer,) = explain(store, ["digits-net"], question, data_root=data_root)
    assert answer.warnings == () and np.array_equal(answer.ids, splits.val.ids[:20])
    assert answer.folder.name == "digits-net@v0-label-val"
    other = store.add_model(classifier, dataclasses.replace(card, source="another", run="another"))
    older = store.add_model(classifier, dataclasses.replace(card, source="", fingerprint="another", name="old-net"))
    for entry in (other, older):
        (answer,) = explain(store, [entry.reference], question, data_root=data_root)
        assert f"is not the data that {entry.name} was trained on" in answer.warnings[0]
