"""The doctor names what is wrong in a store and what to do, changes nothing, and calls a whole store whole."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from kept_store import make_kept_store, state_of

from cvx.__main__ import main
from cvx.files import read_json, write_json
from cvx.store import Store
from cvx.store.maintenance import examine


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_kept_store(tmp_path_factory.mktemp("kept") / "store").root


@pytest.fixture
def root(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "store")


def problems(root):
    return [one for one in examine(root) if one.level == "problem"]


def notes(root):
    return [one for one in examine(root) if one.level == "note"]


def run_of(root):
    return min((root / "runs").iterdir())


def test_a_whole_store_is_called_whole(root, capsys):
    assert main(["doctor", f"--artifacts={root}"]) == 0
    assert capsys.readouterr().out == f"{root}: whole\n"


def test_a_store_that_is_not_there_is_an_error_that_says_how_to_make_one(tmp_path, capsys):
    assert main(["doctor", f"--artifacts={tmp_path / 'none'}"]) == 2
    assert "no store" in (said := capsys.readouterr().err) and "starter" in said and not (tmp_path / "none").exists()


def test_a_problem_is_printed_with_its_place_and_what_to_do_and_the_exit_code_is_1(root, capsys):
    (root / "models/tiles-vit_mini/v0/model.safetensors").write_bytes(b"")
    assert main(["doctor", f"--artifacts={root}"]) == 1
    said = capsys.readouterr().out
    assert f"problem  {root}/models/tiles-vit_mini/v0\n" in said and "delete the folder" in said
    assert said.endswith("1 problem, 0 notes\n")


def test_looking_at_a_damaged_store_changes_nothing(root):
    (root / "models/tiles-vit_mini/v0/card.json").write_text("{")
    (root / "models/tiles-vit_mini/.tmp-x").mkdir()
    (root / "samples/tiles/v0/labels.npy").write_bytes(b"")
    before = state_of(root)
    assert list(examine(root))
    assert state_of(root) == before


def test_aliases_that_point_at_nothing_whole_are_named_with_what_to_write(root):
    path = root / "models/tiles-vit_mini/aliases.json"
    write_json(path, {"aliases": {"latest": 1, "best": 7}})
    (found,) = problems(root)
    assert found.where == path and "'best' points at 7" in found.what and '{"latest": 1}' in found.advice
    path.write_text(found.advice.partition("write ")[2].removesuffix(" into it"))
    assert problems(root) == []


def test_aliases_that_point_at_a_damaged_version_are_named(root):
    (root / "models/tiles-vit_mini/v1/card.json").unlink()
    assert {"'latest' points at 1, which is no whole version"} <= {one.what for one in problems(root)}


def test_a_model_under_anothers_name_is_named(root):
    (root / "models/tiles-vit_mini").rename(root / "models/other")
    assert [one.what for one in problems(root)] == ["its card belongs to 'tiles-vit_mini'"] * 2


def test_a_model_without_its_samples_is_named(root):
    shutil.rmtree(root / "samples")
    assert ["samples that its maps" in one.what for one in problems(root)] == [True, True]


def test_one_changed_pixel_in_the_samples_is_seen(root):
    path = root / "samples/tiles/v0/images.npy"
    images = np.load(path)
    images[3, 2, 1, 0] ^= 1
    np.save(path, images)
    (found,) = problems(root)
    assert "images.npy changed since the card was written" in found.what
    Store(root).samples("tiles")  # a reader that maps them does not read every byte


def test_samples_written_before_there_were_digests_pass(root):
    card = root / "samples/tiles/v0/card.json"
    write_json(card, {key: value for key, value in read_json(card).items() if key not in ("sha256", "format")})
    assert problems(root) == []


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("labels", np.full(40, 9), "labels must be from 0 to 3"),
        ("labels", np.zeros(39, np.int64), "labels must be int64 [40]"),
        ("ids", np.zeros(40), "ids must be int64"),
        ("images", np.zeros((40, 16, 16, 3), np.float32), "images must be uint8"),
        ("images", np.zeros((40, 16, 16, 4), np.uint8), "images must be uint8"),
        ("masks", np.zeros((40, 8, 8), bool), "masks must be bool [40, 16, 16]"),
    ],
)
def test_sample_arrays_that_do_not_fit_their_card_are_refused_by_every_reader(root, name, array, said):
    np.save(root / f"samples/tiles/v0/{name}.npy", array)
    assert any(said in one.what for one in problems(root))
    with pytest.raises(ValueError, match="damaged"):
        Store(root).samples("tiles")


def test_a_run_whose_records_end_early_is_named(root):
    metrics = run_of(root) / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))
    (found,) = problems(root)
    assert "about 2 epochs, but metrics.jsonl ends after 1" in found.what


def test_a_run_whose_steps_go_backwards_is_named(root):
    metrics = run_of(root) / "metrics.jsonl"
    metrics.write_text("".join(reversed(metrics.read_text().splitlines(keepends=True))))
    assert any("metrics.jsonl" in str(one.where) and "one before the last" in one.what for one in problems(root))


def test_a_stopped_run_is_a_note_with_the_command_that_goes_on(root):
    (run_of(root) / "summary.json").unlink()
    (found,) = notes(root)
    assert "before its first epoch" in found.what
    (run_of(root) / "state").mkdir()
    for name in ("state", "best"):
        shutil.copy(root / "models/tiles-vit_mini/v0/model.safetensors", run_of(root) / f"state/{name}.safetensors")
    (found,) = notes(root)
    assert found.advice == f"python -m cvx train --resume={run_of(root).name}" and problems(root) == []
    (run_of(root) / "state/state.safetensors").write_bytes(b"12345678")
    (found,) = problems(root)
    assert found.where.name == "state.safetensors" and "start the run anew" in found.advice


def test_a_run_killed_before_it_recorded_anything_is_a_note_and_one_that_lost_its_config_a_problem(root):
    (root / "runs/20260102-000000-tiles-vit_mini-0000").mkdir()
    (found,) = notes(root)
    assert "killed before it recorded anything" in found.what and problems(root) == []
    (run_of(root) / "config.json").unlink()
    assert [one.where for one in problems(root)] == [run_of(root)]


def test_a_run_that_a_living_process_trains_is_told_from_a_stopped_one(root):
    (run_of(root) / "summary.json").unlink()
    hold = "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); print(1, flush=True); time.sleep(99)"
    lock = run_of(root) / ".lock"
    with subprocess.Popen([sys.executable, "-c", hold, str(lock)], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        seen = notes(root)
        holder.kill()
    assert [one.what for one in seen] == ["is being trained by a living process"]
    assert "before its first epoch" in notes(root)[0].what


def test_what_killed_writers_left_is_a_note_and_what_is_fresh_may_still_be_at_work(root):
    leftover = root / "models/tiles-vit_mini/.tmp-abc"
    leftover.mkdir()
    (found,) = notes(root)
    assert found.where == leftover and "being written" in found.what
    old = time.time() - 7200
    os.utime(leftover, (old, old))
    (found,) = notes(root)
    assert "killed" in found.what and "prune" in found.advice


def test_names_that_nobody_knows_are_notes_everywhere(root):
    places = [
        root,
        root / "models",
        root / "models/tiles-vit_mini/v0",
        root / "runs",
        run_of(root),
        root / "samples/tiles",
    ]
    for place in places:
        (place / "my notes.txt").write_text("mine")
    assert sorted(one.where.parent for one in notes(root)) == sorted(places) and problems(root) == []


def test_what_a_stopped_pull_had_fetched_is_a_note_that_says_how_to_go_on(root):
    (root / ".pulling/0123").mkdir(parents=True)
    (root / ".pulling.lock").touch()
    (found,) = notes(root)
    assert found.where == root / ".pulling" and "pull again" in found.advice and problems(root) == []


def test_a_run_whose_model_was_pruned_is_a_note(root):
    shutil.rmtree(root / "models/tiles-vit_mini/v0")
    write_json(root / "models/tiles-vit_mini/aliases.json", {"aliases": {"latest": 1, "best": 1}})
    assert ["its best model is not here" in one.what for one in notes(root)] == [True] and problems(root) == []


def test_a_whole_folder_may_be_a_link_to_another_disk(root, tmp_path):
    (root / "runs").rename(tmp_path / "elsewhere")
    (root / "runs").symlink_to(tmp_path / "elsewhere")
    assert all(one.level == "note" for one in examine(root))
