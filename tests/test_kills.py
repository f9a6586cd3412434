"""A process may be killed, share its store with others, or find the disk full: what was kept stays whole.

A few rounds here; `make test-long` runs hundreds (`tests/long`).
"""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from killing import (
    CHECKPOINT,
    HERE,
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
from cvx.records import runs
from cvx.store import Store
from cvx.upkeep import examine


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
    longest_s, (whole,) = time.monotonic() - begun, runs(tmp_path / "straight")
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
    random, kills, points = np.random.default_rng(7), 0, [number / 1000 for number in range(4 * ROUNDS)]
    path, done = write(tmp_path, parameters={"x": {"values": points}, "pause": {"value": 100}}), set()
    while kills < ROUNDS:
        killed = kill_after(start("-m", "cvx", "sweep", path, "--jobs=2", "--resume"), float(random.uniform(2, 8)))
        before, done = done, {run.name for run in finished(tmp_path)}
        assert before <= done
        kills += 1 if killed else ROUNDS  # it is through: there is nothing left to kill
    said, _ = start("-m", "cvx", "sweep", path, "--jobs=2", "--resume").communicate(timeout=250)
    assert sorted(float(run.config["values"]["x"]) for run in finished(tmp_path)) == points, said
    assert done <= {run.name for run in finished(tmp_path)}


PRUNER = """
import sys
from pathlib import Path
from cvx.upkeep import Keep, plan, remove
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


# a full disk


@pytest.fixture
def full_disk():
    """Let no file grow beyond a size, as a full disk does; Python turns the signal into an error of its own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(num_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_model_that_does_not_fit_on_the_disk_is_an_error_and_the_store_stays_as_it_was(tmp_path, full_disk):
    splits = make_splits("tiles", 40, 16, 3, True)
    store = Store(tmp_path)
    store.add_samples(splits)
    first = add_model(store, splits, "vit_mini")
    full_disk(300_000)
    with pytest.raises(OSError, match=r"model\.safetensors could not be written|too large|File"):
        add_model(store, splits, "vit_mini", seed=1, **{"val/acc1": 0.9})
    full_disk(resource.RLIM_INFINITY)
    assert [entry.reference for entry in store.models()] == [first.reference]
    assert list(examine(tmp_path)) == []


def test_samples_that_do_not_fit_on_the_disk_leave_none(tmp_path, full_disk):
    full_disk(10_000)
    with pytest.raises(OSError):
        Store(tmp_path).add_samples(make_splits("tiles", 40, 16, 3, True))
    full_disk(resource.RLIM_INFINITY)
    assert Store(tmp_path).datasets() == [] and [one.level for one in examine(tmp_path)] == []


@pytest.mark.slow
def test_training_on_a_full_disk_is_one_line_and_the_last_good_state_can_go_on(tmp_path, data_root):
    data.load("digits", data_root)
    where = [f"--artifacts={tmp_path / 'store'}", f"--data={data_root}"]
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, -1)); sys.argv = ['cvx', *sys.argv[1:]]; runpy.run_module('cvx', run_name='__main__')"
    process = start("-c", limited, "train", *TRAIN, *where)
    said, _ = process.communicate(timeout=250)
    assert process.returncode == 2 and "Traceback" not in said, said
    assert said.splitlines()[-1].startswith("cvx train: ") and "could not be written" in said
    assert [one for one in examine(tmp_path / "store") if one.level == "problem"] == []


@pytest.mark.slow
def test_a_store_that_cannot_be_written_is_an_error_and_still_read():
    # outside pytest's folders, which only their owner may enter: root has to become somebody else to be refused
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        answer = subprocess.run([sys.executable, "-c", READ_ONLY, folder, HERE], capture_output=True, text=True)
        for path in Path(folder).rglob("*"):
            path.chmod(0o755)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["read", "refused", "[]"]


READ_ONLY = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from small_store import add_model, make_splits
from cvx.store import Store
from cvx.upkeep import examine
store = Store(Path(sys.argv[1]) / "store")
splits = make_splits("tiles", 40, 16, 3, True)
store.add_samples(splits)
add_model(store, splits, "vit_mini").load()
for path in [store.root, *store.root.rglob("*")]:
    path.chmod(0o555 if path.is_dir() else 0o444)
if os.geteuid() == 0:
    os.setuid(65534)
store.resolve("tiles-vit_mini").load()
print("read")
try:
    add_model(store, splits, "vit_mini", seed=1)
except OSError:
    print("refused")
print(list(examine(store.root)))
"""


# a disk of three megabytes

SMALL_DISK = """
import errno, os, subprocess, sys
from pathlib import Path
root, data, flags = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
kind = "disk" if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(root)], capture_output=True).returncode == 0 else "limit"
if kind == "limit":  # no namespaces here: no file may grow beyond a size instead
    import resource
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
def cvx(*words):
    ended = subprocess.run([sys.executable, "-m", "cvx", *words, f"--artifacts={root / 'store'}"], capture_output=True, text=True)
    return ended.returncode, ended.stderr.strip().splitlines()
print("kind", kind)
code, said = cvx("train", *flags, f"--data={data}")
print("train", code, any("Traceback" in line for line in said), said[-1] if said else "")
print("doctor", *cvx("doctor")[:1])
run = next((root / "store" / "runs").iterdir())
print("kept", (run / "metrics.jsonl").is_file(), [str(path) for path in root.rglob("*") if ".tmp" in path.name])
if kind == "disk":
    subprocess.run(["mount", "-o", "remount,size=200m", str(root)], check=True)
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
state = run / "state" / "state.safetensors"
code, said = cvx("train", *([f"--resume={run.name}"] if state.is_file() else flags), f"--data={data}")
print("again", code, *said[-1:] if code else "")
if kind == "disk":
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    model = next((root / "store" / "models").iterdir()).name
    for words in (["report", "--num=5", "--device=cpu"], ["attribute", model, "--per_class=1", "--device=cpu"]):
        code, said = cvx(*words)
        print("read-only", words[0], code, any("Traceback" in line for line in said), said[-1])
    print("doctor", *cvx("doctor")[:1])
"""


@pytest.mark.slow
@pytest.mark.timeout(900)  # seven processes, each of which imports torch
def test_on_a_disk_that_fills_up_training_ends_in_one_line_and_goes_on_once_there_is_room(tmp_path, data_root):
    data.load("digits", data_root)
    allowed = subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
    (tmp_path / "disk").mkdir()
    small = [*(["unshare", "-rm"] if allowed else []), sys.executable, "-c", SMALL_DISK]
    flags = [
        "--dataset=digits",
        "--model=test_resnet",
        "--stem=timm",
        "--epochs=2",
        "--warmup_epochs=0",
        "--device=cpu",
    ]
    answer = subprocess.run(
        [*small, tmp_path / "disk", data_root, *flags], cwd=HERE.parent, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    said = dict(line.split(" ", 1) for line in lines if not line.startswith(("doctor", "read-only")))
    assert said["train"].startswith("2 False cvx train: "), answer.stdout
    assert said["kept"] == "True []" and said["again"].startswith("0"), answer.stdout
    for line in lines:
        assert not line.startswith("doctor") or line == "doctor 0", answer.stdout
        assert not line.startswith("read-only") or (" 2 False " in line and "Read-only" in line), answer.stdout
