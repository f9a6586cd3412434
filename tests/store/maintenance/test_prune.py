"""Prune shows what would go, deletes only when told to, and never what somebody needs."""

import os
import shutil
import threading
import time

import numpy as np
import pytest
from filelock import FileLock
from kept_store import make_kept_store, state_of
from small_store import add_model, make_splits

from cvx.__main__ import main
from cvx.comparison.result_cache import save_cached as keep_result
from cvx.files import whole_folder
from cvx.store import Store
from cvx.store.maintenance import Keep, check_results, examine, plan, remove
from cvx.store.maintenance.check_outputs import outputs


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A store whose model has five versions: v0 is named by a run, v2 is best, v4 is latest."""
    store = make_kept_store(tmp_path_factory.mktemp("full") / "store")
    tiles = make_splits("tiles", 40, 16, 3, True)
    for seed in (2, 3, 4):
        add_model(store, tiles, "vit_mini", seed=seed, **{"val/acc1": 0.9 if seed == 2 else 0.5})
    return store.root


@pytest.fixture
def root(full, tmp_path):
    return shutil.copytree(full, tmp_path / "store")


def gone(root, **changes):
    return [str(one.path.relative_to(root)) for one in plan(root, Keep(**changes))]


def versions(root):
    return [entry.version for entry in Store(root).models()]


def make_old(path):
    old = time.time() - 7200
    for one in [*path.rglob("*"), path]:
        os.utime(one, (old, old))


def test_only_versions_that_nothing_names_go(root):
    assert gone(root) == ["models/tiles-vit_mini/v1", "models/tiles-vit_mini/v3"]
    assert gone(root, newest=2) == ["models/tiles-vit_mini/v1"]
    assert gone(root, runs=False) == [f"models/tiles-vit_mini/v{k}" for k in (0, 1, 3)]


def test_best_and_latest_never_go(root):
    assert {2, 4}.isdisjoint(int(name[-1]) for name in gone(root, runs=False, newest=1))


def test_showing_changes_nothing_and_tells_the_megabytes(root, capsys):
    before = state_of(root)
    assert main(["prune", f"--artifacts={root}"]) == 0
    said = capsys.readouterr().out
    size = sum(file.stat().st_size for k in (1, 3) for file in (root / f"models/tiles-vit_mini/v{k}").iterdir()) / 1e6
    assert f"{size:.1f} MB  would go; --yes deletes it" in said and "v1  (an old version)" in said
    assert state_of(root) == before


def test_with_yes_they_go_and_the_rest_stays_whole(root, capsys):
    assert main(["prune", "--yes", f"--artifacts={root}"]) == 0
    assert versions(root) == [0, 2, 4] and capsys.readouterr().out.rstrip().endswith("gone")
    assert list(examine(root)) == []
    assert Store(root).resolve("tiles-vit_mini").version == 2
    assert main(["prune", "--yes", f"--artifacts={root}"]) == 0
    assert "nothing to prune" in capsys.readouterr().out


def test_a_version_that_became_best_since_it_was_shown_stays(root):
    (item, *_) = plan(root, Keep())
    (root / "models/tiles-vit_mini/aliases.json").write_text('{"format": 1, "aliases": {"best": 1, "latest": 4}}')
    assert not remove(item, Keep(), root) and 1 in versions(root)


def test_what_somebody_is_at_work_on_stays_and_the_exit_code_says_so(root, capsys):
    with FileLock(root / "models/tiles-vit_mini/.lock"):
        assert main(["prune", "--yes", f"--artifacts={root}"]) == 1
    assert "in use, stays" in capsys.readouterr().out and versions(root) == [0, 1, 2, 3, 4]


def test_leftovers_go_when_nobody_can_be_writing_them(root):
    folder, file = root / "models/tiles-vit_mini/.tmp-abc", next((root / "runs").iterdir()) / "film/.0001.npz.x.tmp.npz"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"half")
    file.write_bytes(b"half")
    assert all(".tmp" not in name for name in gone(root))
    for path in (folder, file):
        make_old(path)
    assert {str(path.relative_to(root)) for path in (folder, file)} <= set(gone(root))
    (folder / "model.safetensors").write_bytes(b"more")
    assert str(folder.relative_to(root)) not in gone(root), "its writer is alive"


def test_what_others_take_away_meanwhile_stops_neither_prune_nor_doctor(root):
    stop = threading.Event()

    def come_and_go(parent):
        while not stop.is_set():
            with whole_folder(parent) as folder:
                (folder / "deep" / "deeper").mkdir(parents=True)
                (folder / "deep" / "maps.npz").write_bytes(b"half")
            (parent / "passing.lock").touch()
            (parent / "passing.lock").unlink()

    (root / "sweeps/toy/owners").mkdir(parents=True)
    places = [root / "models/tiles-vit_mini", root / "attributions", root / "sweeps/toy/owners"]
    writers = [threading.Thread(target=come_and_go, args=(place,)) for place in places]
    for writer in writers:
        writer.start()
    try:
        for _ in range(60):
            found = [*outputs(root), *check_results.sweeps(root)]
            assert [one for one in found if one.level == "problem"] == []
            assert {one.path.name for one in plan(root, Keep())} == {"v1", "v3"}
    finally:
        stop.set()
        for writer in writers:
            writer.join()


def test_a_run_that_recorded_nothing_goes_when_nobody_is_starting_it(root):
    empty = root / "runs/20260102-000000-tiles-vit_mini-0000"
    empty.mkdir()
    assert str(empty.relative_to(root)) not in gone(root)
    make_old(empty)
    assert str(empty.relative_to(root)) in gone(root)


def test_the_state_of_a_run_goes_only_when_the_run_is_done(root):
    run = next((root / "runs").iterdir())
    (run / "state").mkdir()
    (run / "state/state.safetensors").write_bytes(b"")
    assert any("state.safetensors" in name for name in gone(root))
    (run / "summary.json").unlink()
    assert not any("state.safetensors" in name for name in gone(root))


def test_kept_results_go_with_their_model_or_when_asked(root):
    keep_result(Store(root), "pairs", {"model": ["f" * 64, "sobel"]}, {"x": np.zeros(1)})
    assert [name for name in gone(root) if "measures" in name] == [
        str(path.relative_to(root)) for path in sorted((root / "measures/pairs").iterdir()) if _is_about_f(path)
    ]
    assert len([name for name in gone(root, measures=False) if "measures" in name]) == 2


def _is_about_f(path):
    with np.load(path) as stored:
        return "ffff" in str(stored["facts"])


def test_a_damaged_summary_stops_it_since_nobody_knows_what_its_run_needs(root, capsys):
    (next((root / "runs").iterdir()) / "summary.json").write_text("{")
    before = versions(root)
    assert main(["prune", "--yes", f"--artifacts={root}"]) == 2
    assert "summary.json is damaged" in capsys.readouterr().err and versions(root) == before


def test_links_are_not_followed(root, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    (root / "models/tiles-vit_mini/.tmp-link").symlink_to(precious)
    (root / "models/tiles-vit_mini/v1").rename(tmp_path / "moved")
    (root / "models/tiles-vit_mini/v1").symlink_to(tmp_path / "moved")
    make_old(precious)
    main(["prune", "--yes", "--runs", "True", f"--artifacts={root}"])
    assert (precious / "thesis.txt").read_text() == "years" and (tmp_path / "moved/card.json").is_file()


def test_keeping_nothing_is_refused(capsys):
    with pytest.raises(ValueError, match="keep must be 1"):
        Keep(newest=0)
