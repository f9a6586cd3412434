"""Files are there whole or not at all."""

import json

import pytest

from cvx.files import FORMAT, read_json, whole_file, whole_folder, write_json


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path)["x"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_was_not_renamed_is_removed(tmp_path):
    with pytest.raises(RuntimeError), whole_folder(tmp_path) as temporary:
        (temporary / "x").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_json_carries_its_format_and_a_newer_one_is_refused(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    assert json.loads(path.read_text()) == {"format": FORMAT, "x": 1}
    path.write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(ValueError, match="newer cvx"):
        read_json(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": "x"}', "[" * 100_000])
def test_damaged_json_is_an_error_that_names_the_file(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"a\.json is damaged"):
        read_json(path)


def test_files_are_readable_by_others_as_the_umask_says(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").stat().st_mode == plain.stat().st_mode


def test_numbers_json_does_not_know_become_null(tmp_path):
    write_json(tmp_path / "a.json", {"x": [float("nan"), 1.5, {"y": float("inf")}]})
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)["x"] == [None, 1.5, {"y": None}]


def test_a_name_that_no_file_could_hold_is_read_with_replacement_characters_and_others_as_they_are(tmp_path):
    # A folder named by the bytes 94 4C, not UTF-8; an emoji, which JSON writes as a pair; half of such a pair.
    held = {"\udc94L": ["\udc94L", {"a": "\U0001f431 é \udc95L"}], "half": "\ud83d", "plain": "\\udc94"}
    write_json(tmp_path / "a.json", held)
    content = read_json(tmp_path / "a.json")
    assert content.pop("format") == FORMAT
    mended = {"\ufffd94L": ["\ufffd94L", {"a": "\U0001f431 é \ufffd95L"}], "half": "\ufffdd83d", "plain": "\\udc94"}
    assert content == mended
