"""A process may be killed or share its store with others: what was kept stays whole.

A few rounds here; `make test-long` runs hundreds (`tests/long`).
"""

import shutil
import time

import numpy as np
import pytest
from killing import (
    CHECKPOINT,
    HERE,
    LONGEST_S,
    MATERIALIZE,
    ROUNDS,
    STATE,
    TRAIN,
    assert_never_half_written,
    differences,
    kill_after,
    kill_when_ready,
    start,
    train_with_kills,
)
from safetensors.numpy import load_file
from small_store import add_model, make_splits
from sweeping import PROGRAM, finished, write

from cvx import data
from cvx.store import Store
from cvx.store.runs import list_runs


@pytest.mark.slow
def test_a_process_killed_while_it_stores_models_leaves_whole_versions_only(tmp_path):
    random, killed = np.random.default_rng(1), 0
    splits = make_splits("tiles", 40, 16, 3, True)
    for number in range(ROUNDS):
        root = tmp_path / f"store-{number // 3}"
        killed += kill_when_ready(start("-c", CHECKPOINT, root, HERE), random.uniform(0.05, 0.8))
        add_model(Store(root), splits, "vit_mini", seed=77_777 + number)  # no lock outlived its owner
        assert_never_half_written(root)
    assert killed == ROUNDS


@pytest.mark.slow
def test_a_process_killed_while_it_saves_its_state_leaves_the_last_whole_one(tmp_path):
    random, before = np.random.default_rng(2), -1.0
    for _ in range(ROUNDS):
        kill_when_ready(start("-c", STATE, tmp_path), random.uniform(0.05, 0.5))
        weights = load_file(tmp_path / "state.safetensors")["model/weight"]
        assert (weights == weights[0, 0]).all(), "a state of one step, not of two"
        before = max(before, float(weights[0, 0]))
    assert before > 0


@pytest.mark.slow
def test_a_process_killed_while_it_prepares_a_dataset_leaves_nothing_that_is_taken_for_whole(tmp_path):
    random = np.random.default_rng(3)
    straight = data.load("shapes32", tmp_path / "straight")
    for _ in range(ROUNDS):
        kill_when_ready(start("-c", MATERIALIZE, tmp_path / "data", "shapes32"), random.uniform(0.0, 4.0))
    found = data.load("shapes32", tmp_path / "data")
    np.testing.assert_array_equal(found.train.images, straight.train.images)
    assert not list((tmp_path / "data/cache").glob(".*.building"))


@pytest.mark.slow
def test_training_that_is_killed_again_and_again_ends_bit_identical(tmp_path, data_root):
    data.load("digits", data_root)
    begun = time.monotonic()
    straight = start("-m", "cvx", "train", *TRAIN, f"--artifacts={tmp_path / 'straight'}", f"--data={data_root}")
    said, _ = straight.communicate(timeout=250)
    assert straight.returncode == 0, said
    longest_s, (whole,) = time.monotonic() - begun, list_runs(tmp_path / "straight")
    random, kills, rounds = np.random.default_rng(4), 0, 0
    while kills < ROUNDS:
        root = tmp_path / f"killed-{rounds}"
        name, met = train_with_kills(root, data_root, random, ROUNDS - kills, longest_s)
        kills, rounds = kills + met, rounds + 1
        assert differences(root / "runs" / name, whole.folder) == []
        ours, theirs = (Store(place).resolve("digits-resnet10t").card.sha256 for place in (root, tmp_path / "straight"))
        assert ours == theirs
        shutil.rmtree(root)


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_loses_and_repeats_no_finished_trial(tmp_path):
    (tmp_path / "toy.py").write_text(PROGRAM)
    points = [round(0.012 * number / (4 * ROUNDS), 6) for number in range(4 * ROUNDS)]  # two seconds at most each
    random, kills = np.random.default_rng(7), 0
    path, done = write(tmp_path, parameters={"x": {"values": points}, "pause": {"value": 100}}), set()
    while kills < ROUNDS:
        killed = kill_after(start("-m", "cvx", "sweep", path, "--jobs=2", "--resume"), float(random.uniform(2, 8)))
        before, done = done, {run.name for run in finished(tmp_path)}
        assert before <= done
        kills += 1 if killed else ROUNDS  # it is through: there is nothing left to kill
    said, _ = start("-m", "cvx", "sweep", path, "--jobs=2", "--resume").communicate(timeout=LONGEST_S)
    assert sorted(float(run.config["values"]["x"]) for run in finished(tmp_path)) == points, said
    assert done <= {run.name for run in finished(tmp_path)}


PRUNER = """
import sys
from pathlib import Path
from cvx.store.maintenance import Keep, plan, remove
print("ready", flush=True)
for _ in range(40):
    for item in plan(Path(sys.argv[1]), Keep()):
        remove(item, Keep(), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_pruning_beside_a_writer_takes_nothing_that_is_needed(tmp_path):
    writer = start("-c", CHECKPOINT, tmp_path, HERE)
    assert writer.stdout.readline().strip() == "ready"
    while not (tmp_path / "models/tiles-vit_mini/v1").is_dir():
        assert writer.poll() is None
    pruner = start("-c", PRUNER, tmp_path)
    said, _ = pruner.communicate(timeout=250)
    assert pruner.returncode == 0, said
    writer.kill()
    writer.communicate()
    assert_never_half_written(tmp_path)
    assert {"best", "latest"} <= {alias for entry in Store(tmp_path).models() for alias in entry.aliases}
