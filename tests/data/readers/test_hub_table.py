from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Picture

from cvx.data.dataset_types import Info
from cvx.data.readers.hub_table import Columns, read

BIRDS = Columns("org/birds")


def _picture(value, size=(6, 6), mode="RGB"):
    return Picture.new(mode, size, (value, 0, 0) if mode == "RGB" else value)


def _split(labels, names=("owl", "duck"), **columns):
    rows = {"image": [_picture(10 * i) for i in range(len(labels))], "label": labels} | columns
    kinds = {"image": Image(), "label": ClassLabel(names=list(names)), "fine": ClassLabel(names=["a", "b"])}
    return Dataset.from_dict(rows, Features({name: kinds.get(name, Value("string")) for name in rows}))


def test_images_labels_and_class_names_are_read():
    source = read(DatasetDict(train=_split([1, 0, 1]), test=_split([0])), BIRDS, None)
    assert source.classes == ("owl", "duck")
    assert source.parts["train"].labels.tolist() == [1, 0, 1]
    assert [image[0, 0].tolist() for image in source.parts["train"].images] == [
        [0] * 3,
        [10, 0, 0],
        [20, 0, 0],
    ]
    assert len(source.parts["test"].images) == 1
    assert source.image_size == 6


def test_a_class_name_that_no_file_could_hold_is_read_with_replacement_characters():
    source = read(DatasetDict(train=_split([1, 0], names=("\udc94L", "duck"))), BIRDS, None)
    assert source.classes == ("\ufffd94L", "duck")


def test_a_table_of_12_bits_that_does_not_say_so_is_told_of(capsys):
    wide = [Picture.fromarray(np.full((6, 6), 4095, np.uint16))] * 2
    images = read(DatasetDict(train=_split([1, 0], image=wide)), BIRDS, None).parts["train"].images
    assert [image.max() for image in images] == [16, 16]
    assert "train of org/birds: 2 of 2 images with 16 bits" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_a_validation_split_of_any_usual_name_is_val(name):
    source = read(DatasetDict({"train": _split([0, 1]), name: _split([1]), "unsupervised": _split([0])}), BIRDS, None)
    assert set(source.parts) == {"train", "val"}


def test_a_single_split_of_any_name_is_train():
    assert set(read(DatasetDict(everything=_split([0, 1])), BIRDS, None).parts) == {"train"}


def test_several_splits_without_train_are_an_error_that_lists_them():
    with pytest.raises(ValueError, match=r"org/birds has no split 'train', only test, validation"):
        read(DatasetDict(test=_split([0]), validation=_split([1])), BIRDS, None)


def test_rows_without_a_label_are_left_out_and_counted(capsys):
    dataset = DatasetDict(train=_split([1, -1, None, 0]), test=_split([-1, -1]))
    source = read(dataset, BIRDS, None)
    assert set(source.parts) == {"train"}
    assert source.parts["train"].labels.tolist() == [1, 0]
    assert source.parts["train"].images[1][0, 0].tolist() == [30, 0, 0]
    said = capsys.readouterr().err
    assert "train of org/birds: left out 2 rows without a label" in said
    assert "test of org/birds: left out 2 rows without a label" in said


def test_a_train_split_without_labels_is_an_error():
    with pytest.raises(ValueError, match="train of org/birds has no row with a label"):
        read(DatasetDict(train=_split([-1, None])), BIRDS, None)


def test_several_label_columns_are_an_error_that_says_how_to_choose_and_the_choice_is_taken():
    dataset = DatasetDict(train=_split([1, 0], fine=[0, 1]))
    with pytest.raises(ValueError, match=r"several ClassLabel columns: label, fine; choose one by hub:org/birds#label"):
        read(dataset, BIRDS, None)
    source = read(dataset, Columns("org/birds", label="fine"), None)
    assert source.classes == ("a", "b")
    assert source.parts["train"].labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("dropped", "columns", "message"),
    [
        ("label", BIRDS, r"no ClassLabel column for labels; it has image \(Image\), note \(Value\)"),
        ("image", BIRDS, r"no Image column for images; it has label \(ClassLabel\), note \(Value\)"),
        (
            "note",
            Columns("org/birds", label="note"),
            r"no ClassLabel column 'note'; it has image \(Image\), label",
        ),
    ],
)
def test_a_missing_column_is_an_error_that_lists_the_columns(dropped, columns, message):
    split = _split([0, 1], note=["x", "y"]).remove_columns([dropped])
    with pytest.raises(ValueError, match=f"org/birds has {message}"):
        read(DatasetDict(train=split), columns, None)


def test_gray_images_stay_gray_only_if_all_are():
    gray = _split([0, 1], image=[_picture(7, mode="L"), _picture(9, mode="L")])
    assert read(DatasetDict(train=gray), BIRDS, None).parts["train"].images[1].shape == (6, 6, 1)
    mixed = _split([0, 1], image=[_picture(7, mode="L"), _picture(9, (5, 6))])
    source = read(DatasetDict(train=mixed), BIRDS, None)
    assert [image.shape for image in source.parts["train"].images] == [(6, 6, 3), (6, 5, 3)]
    assert source.image_size == 0


def test_a_damaged_or_missing_image_is_named_by_its_row():
    split = _split([0, 1, 1], image=[_picture(1), {"bytes": b"no image", "path": None}, None])
    images = read(DatasetDict(train=split.select([0]), test=split), BIRDS, None).parts["test"].images
    with pytest.raises(ValueError, match="row 1 of test of org/birds is not an image"):
        images[1]
    with pytest.raises(ValueError, match="row 2 of test of org/birds holds no image"):
        images[2]


def test_names_are_corrected_and_known_information_is_kept():
    info = Info("Birds", "MIT", "Somebody, 2020", flip=False)
    source = read(DatasetDict(train=_split([0, 1])), Columns("org/birds", renamed={"duck": "goose"}), info)
    assert source.classes == ("owl", "goose")
    assert source.info is info


def test_what_is_not_known_points_to_the_datasets_page():
    info = read(DatasetDict(train=_split([0, 1])), BIRDS, None).info
    assert "https://huggingface.co/datasets/org/birds" in info.licence
    assert "https://huggingface.co/datasets/org/birds" in info.citation


def test_other_labels_columns_or_images_change_the_fingerprint(tmp_path):
    def fingerprint(name, split, columns=BIRDS):
        DatasetDict(train=split).save_to_disk(tmp_path / name)
        return read(DatasetDict.load_from_disk(tmp_path / name), columns, None).fingerprint

    first = fingerprint("a", _split([0, 1], fine=[0, 1]), Columns("org/birds", label="label"))
    again = fingerprint("b", _split([0, 1], fine=[0, 1]), Columns("org/birds", label="label"))
    others = {
        fingerprint("c", _split([1, 1], fine=[0, 1]), Columns("org/birds", label="label")),
        fingerprint("d", _split([0, 1], fine=[0, 1]), Columns("org/birds", label="fine")),
        fingerprint(
            "e",
            _split([0, 1], image=[_picture(0, (60, 60)), _picture(1)], fine=[0, 1]),
            Columns("org/birds", label="label"),
        ),
    }
    assert first == again
    assert len(others | {first}) == 4


def test_the_thread_pool_reads_the_same_images():
    images = read(DatasetDict(train=_split([i % 2 for i in range(20)])), BIRDS, None).parts["train"].images
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda i: int(images[i][0, 0, 0]), list(range(20)) * 10))
    np.testing.assert_array_equal(values, [10 * i for i in range(20)] * 10)
