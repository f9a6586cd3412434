"""Which folders are splits, which are classes, and what cannot be either."""

import hashlib
import os
import re
import shlex
import subprocess
import sys

import pytest
from small_images import save_birds, save_image

from cvx.data import load
from cvx.data.readers import class_folders, folder


@pytest.mark.parametrize("val", ["val", "Val", "valid", "validation", "VALID", "dev", "val_set", "Validation-Set"])
@pytest.mark.parametrize("above", ["", "archive", "Archive (2)"])
@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Testing"), ("Train_set", "TEST_SET")])
def test_train_val_and_test_folders_become_parts(train, val, test, above, tmp_path):
    for part, num in ((train, 4), (val, 2), (test, 3)):
        save_birds(tmp_path / above / part, num)
    source = folder.source(tmp_path)
    assert {part: len(files.images) for part, files in source.parts.items()} == {
        "train": 8,
        "val": 4,
        "test": 6,
    }
    assert source.classes == ("duck", "owl")
    assert source.fingerprint == folder.source(tmp_path / above).fingerprint


def test_what_lies_beside_the_only_folder_with_splits_is_named(tmp_path, capsys):
    save_birds(tmp_path / "archive" / "Training")
    save_birds(tmp_path / "archive" / "Test")
    for name in ("docs/list.csv", "__MACOSX/._a.png", "archive/LICENSE"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("?")
    assert set(folder.source(tmp_path).parts) == {"train", "test"}
    assert "1 hidden; 2 outside the class folders (LICENSE, docs)" in capsys.readouterr().err


def test_sub_folders_that_sort_the_images_of_a_class_stay_in_it(tmp_path):
    for name in ("n01", "n02"):  # as in Tiny-ImageNet
        save_image(tmp_path / "one" / name / "images" / "a.png")
        for day in ("monday", "tuesday"):
            save_image(tmp_path / "both" / name / f"{day}.png")
            save_image(tmp_path / "both" / name / day / "a.png")
    save_image(tmp_path / "apart" / "n01" / "monday" / "a.png")
    save_image(tmp_path / "apart" / "n01" / "tuesday" / "a.png")
    save_image(tmp_path / "apart" / "n02" / "tuesday" / "a.png")
    for kind, num in (("one", 2), ("both", 8), ("apart", 3)):
        source = folder.source(tmp_path / kind)
        assert source.classes == ("n01", "n02") and len(source.parts["train"].images) == num


def test_a_cache_made_when_splits_were_taken_for_classes_is_not_used(tmp_path, monkeypatch):
    for part in ("Training", "Test"):
        save_birds(tmp_path / "birds" / part, num=10)
    with monkeypatch.context() as patch:  # as every name but train, val and test was read once
        patch.setattr(class_folders, "_part_of", lambda name: {"train": "train"}.get(name))
        patch.setattr(class_folders, "_require_classes", lambda *given: None)
        assert load(f"folder:{tmp_path / 'birds'}", tmp_path).classes == ("Test", "Training")
    splits = load(f"folder:{tmp_path / 'birds'}", tmp_path)
    assert splits.classes == ("duck", "owl") and len(splits.test) == 20
    assert len(list((tmp_path / "cache").iterdir())) >= 2


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_one_class_whose_name_is_composed_in_one_split_and_decomposed_in_another_is_one(tmp_path):
    for part, name in (("train", COMPOSED), ("test", DECOMPOSED)):
        save_image(tmp_path / part / name / "a.png")
        save_image(tmp_path / part / "bar" / "a.png")
    source = folder.source(tmp_path)
    assert source.classes == ("bar", COMPOSED)
    assert [part.labels.tolist() for part in source.parts.values()] == [[0, 1], [0, 1]]


def test_two_folders_of_one_class_beside_each_other_are_one_class(tmp_path):
    for i, name in enumerate((COMPOSED, DECOMPOSED)):
        save_image(tmp_path / name / f"{i}.png", (i, 0, 0))
    with pytest.raises(ValueError, match="has only one class folder, 'caf"):
        folder.source(tmp_path)
    save_image(tmp_path / "bar" / "a.png", (9, 0, 0))
    source = folder.source(tmp_path)
    assert source.classes == ("bar", COMPOSED)
    assert sorted((int(image[0, 0, 0]), int(label)) for image, label in zip(*_arrays(source), strict=True)) == [
        (0, 1),
        (1, 1),
        (9, 0),
    ]


def _arrays(source):
    return source.parts["train"].images, source.parts["train"].labels


def test_the_spelling_of_a_folder_does_not_matter_to_the_fingerprint_and_that_of_ascii_is_as_it_was(tmp_path):
    for at, name in (("here", COMPOSED), ("there", DECOMPOSED)):
        for one in (name, "bar"):
            save_image(tmp_path / at / one / "a.png")
            os.utime(tmp_path / at / one / "a.png", ns=(0, 12345))
    assert folder.source(tmp_path / "here").fingerprint == folder.source(tmp_path / "there").fingerprint
    save_birds(tmp_path / "birds", num=1)
    marks = ""
    for name in ("duck", "owl"):
        os.utime(tmp_path / "birds" / name / "0.png", ns=(0, 12345))
        marks += f"/{name}/0.png {(tmp_path / 'birds' / name / '0.png').stat().st_size} 12345\n"
    part = f"train {hashlib.sha256(marks.encode()).hexdigest()}"
    # What caches, models and samples of earlier versions are known by.
    expected = hashlib.sha256(b"folder-1" + part.encode()).hexdigest()
    assert folder.source(tmp_path / "birds").fingerprint == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("owl", "owl\u200b"),
        ("owl", "\u043ewl"),
        ("owl", "owl "),
        ("owl", "owl\ufe0f"),
        ("caf\u00e9", "caf\u00e9\u3164"),
    ],
)
def test_names_that_look_alike_are_told_apart_in_a_refusal(one, other, tmp_path):
    save_birds(tmp_path / "train")
    save_birds(tmp_path / "test")
    for part, name in (("train", one), ("test", other)):
        save_image(tmp_path / part / name / "b.png")
    (tmp_path / "test" / "owl").rename(tmp_path / "test" / ".owl")
    with pytest.raises(ValueError, match="differ: only in train ") as error:
        folder.source(tmp_path)
    sides = re.fullmatch(r".*only in train (.*); only in test (.*); both.*", str(error.value)).groups()
    seen = [re.sub(r"[^ -~]", "", side) for side in sides]  # by what no font and no eye changes
    assert seen[0] != seen[1]


CAT = os.fsdecode(b"\x94L")  # 猫 in cp932, the encoding of Japanese archives


bytes_as_names = pytest.mark.skipif(sys.platform != "linux", reason="other file systems take no such names")


def _unzipped_in_japan(path):
    for part in ("train", "test"):
        save_birds(path / part)
        (path / part / "owl").rename(path / part / CAT)


@bytes_as_names
def test_class_folders_that_are_not_utf8_are_refused_and_the_command_that_is_printed_renames_them(tmp_path):
    path = tmp_path / "it's a set"
    _unzipped_in_japan(path)
    with pytest.raises(ValueError, match="class folders whose names are not UTF-8") as error:
        folder.source(path)
    said = str(error.value)
    said.encode()  # it can be printed
    assert repr(os.fsencode(CAT)) in said and "cp932: '猫'" in said and said.count(repr(os.fsencode(CAT))) == 1
    command = said.splitlines()[-1]
    assert command.startswith("python -c ") and command.endswith(" cp932")
    subprocess.run(command.replace("python", shlex.quote(sys.executable), 1), shell=True, check=True, cwd=tmp_path)
    assert folder.source(path).classes == ("duck", "猫")


@bytes_as_names
def test_a_path_that_is_not_utf8_is_refused(tmp_path):
    path = save_birds(tmp_path / CAT)
    with pytest.raises(ValueError, match=r"the path b'.*x94L' is not UTF-8; rename the folder, or name it by a link"):
        folder.source(path)
    (tmp_path / "cats").symlink_to(path)
    assert folder.source(tmp_path / "cats").classes == ("duck", "owl")


@bytes_as_names
def test_images_whose_names_are_not_utf8_are_read_and_an_error_that_names_one_can_be_printed(tmp_path):
    save_birds(tmp_path)
    path = (tmp_path / "owl" / "0.png").rename(tmp_path / "owl" / f"{CAT}.png")
    assert len(list(folder.source(tmp_path).parts["train"].images)) == 6
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"\\x94L\.png is not an image") as error:
        list(folder.source(tmp_path).parts["train"].images)
    str(error.value).encode()


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bus", "train", "test"):
        save_image(tmp_path / name / "a.png")
    source = folder.source(tmp_path)
    assert source.classes == ("bus", "test", "train")
    assert len(source.parts["train"].images) == 3


def test_folders_beside_train_and_test_are_ignored_and_counted(tmp_path, capsys):
    save_birds(tmp_path / "train")
    save_birds(tmp_path / "test")
    save_image(tmp_path / "figures" / "a.png")
    assert set(folder.source(tmp_path).parts) == {"train", "test"}
    assert "1 outside the class folders" in capsys.readouterr().err


def _nothing(path):
    pass


def _loose_images(path):
    save_image(path / "a.png")
    save_image(path / "b.png")


def _one_class(path):
    save_image(path / "birds" / "a.png")


def _empty_class(path):
    save_birds(path)
    (path / "gull").mkdir()


def _class_of_text(path):
    save_birds(path)
    (path / "gull").mkdir()
    (path / "gull" / "a.txt").write_text("gull")


def _test_without_train(path):
    save_birds(path / "test")
    save_birds(path / "val")


def _train_of_loose_images(path):
    save_image(path / "train" / "a.png")
    save_birds(path / "test")


def _other_classes_in_test(path):
    save_birds(path / "train")
    save_birds(path / "test")
    save_image(path / "test" / "gull" / "a.png")


def _class_missing_in_val(path):
    save_birds(path / "train")
    save_image(path / "val" / "owl" / "a.png")


def _two_val_folders(path):
    for part in ("train", "val", "valid"):
        save_birds(path / part)


def _two_train_folders(path):
    for part in ("Train_Set", "training"):
        save_birds(path / part)


def _dev_and_val(path):
    for part in ("train", "dev", "val"):
        save_birds(path / part)


def _classes_in_one_folder_of_train(path):
    save_birds(path / "train" / "inner")
    save_birds(path / "test" / "inner")


def _test_without_labels(path):
    save_birds(path / "train")
    for i in range(3):
        save_image(path / "test" / f"{i}.png")


def _test_of_one_other_folder(path):
    save_birds(path / "train")
    for i in range(2):
        save_image(path / "test" / "unknown" / f"{i}.png")


def _empty_dev(path):
    save_birds(path / "train")
    (path / "dev").mkdir()
    (path / "dev" / "notes.txt").write_text("?")


def _splits_inside_classes(path):
    for name in ("owl", "duck"):
        for part in ("train", "test"):
            save_image(path / name / part / "a.png")


def _folds(path):
    for fold in range(1, 4):
        save_birds(path / f"fold{fold}")


def _domains_with_a_folder_between(path):
    save_birds(path / "amazon" / "images")
    save_birds(path / "dslr" / "images")


def _folds_in_train(path):
    for fold in range(1, 3):
        save_birds(path / "train" / f"fold{fold}")
        save_birds(path / "test" / f"fold{fold}")


def _nested_splits_with_an_unlabeled_one(path):
    for part in ("seg_train", "seg_test"):
        save_birds(path / part / part)
    save_image(path / "seg_pred" / "seg_pred" / "a.png")


def _two_datasets_with_splits(path):
    for kind in ("color", "gray"):
        for part in ("train", "test"):
            save_birds(path / kind / part)


def _splits_beside_images(path):
    save_birds(path / "archive" / "Training")
    save_image(path / "birds" / "a.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_nothing, "holds no class folders; put the images of each class into a folder"),
        (_loose_images, "holds 2 images but no class folders"),
        (_one_class, r"only one class folder, 'birds'.*folder:.*birds"),
        (_empty_class, r"gull holds no images"),
        (_class_of_text, r"gull holds no images"),
        (_test_without_train, "has test, val, but no train folder"),
        (_train_of_loose_images, "has test, train, but no train folder with class folders"),
        (_other_classes_in_test, r"train and .*test differ: only in test 'gull'; both need the same class folders"),
        (_class_missing_in_val, r"train and .*val differ: only in train 'duck'; both need"),
        (_two_val_folders, r"has both val and valid; keep one of them as val, hide the other \(\.valid\)"),
        (_two_train_folders, "has both Train_Set and training; keep one of them as train"),
        (_dev_and_val, "has both dev and val; keep one of them as val"),
        (_classes_in_one_folder_of_train, r"train has only one class folder, 'inner'.* move them up into .*train\)"),
        (_test_without_labels, r"test holds 3 images in none of the class folders that .*train has: without labels"),
        (_test_of_one_other_folder, r"test holds 2 images in none .* rename it \.test to hide it: test is then carved"),
        (_empty_dev, r"dev holds none of the class folders that .*train has: .* as val"),
        (_splits_inside_classes, r"duck, owl in .* hold .*: test, train; the splits lie in the classes: .*test/duck"),
        (_folds, r"fold1, fold2, fold3 .* duck, owl\. These look like splits, domains or copies .*folder:.*fold1\)"),
        (_domains_with_a_folder_between, r"amazon, dslr .* hold the same folders: duck, owl\. These look like"),
        (_folds_in_train, r"fold1, fold2 in .*train hold the same folders"),
        (_nested_splits_with_an_unlabeled_one, r"seg_test, seg_train .* hold the same folders: duck, owl"),
        (_two_datasets_with_splits, r"holds color with its splits \(test, train\).* gray .*name one.*folder:.*color"),
        (_splits_beside_images, r"holds archive with its splits .*beside it, birds with other images"),
    ],
)
def test_a_folder_that_does_not_say_its_classes_is_an_error_that_says_what_to_do(make, message, tmp_path):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        folder.source(tmp_path)
