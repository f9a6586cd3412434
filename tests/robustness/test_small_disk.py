"""A disk that fills up, or takes nothing: one line of error, nothing lost, and on with it once there is room."""

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from killing import HERE, TRAIN, start
from recorded_run import record
from small_disk import small_disk
from small_store import add_model, make_splits
from sweeping import PROGRAM, write
from wandb_arrivals import HASTY, WHERE, assert_arrived

from cvx import data
from cvx.store import Store
from cvx.store.maintenance import check_results, examine
from cvx.tracking import publish

QUICK = ("--dataset=digits", "--model=test_resnet", "--stem=timm", "--epochs=1", "--warmup_epochs=0", "--device=cpu")
MODELS = ("tiles-test_resnet:v0", "tiles-test_resnet:v1")


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def made(tmp_path):
    """A store elsewhere with one run and its two models."""
    record(tmp_path / "made")
    return tmp_path / "made"


def contents(root):
    """Return what must not be lost."""
    return {
        path.relative_to(root): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
    }


def half_written(root):
    return [str(path) for path in root.rglob("*") if ".tmp" in path.name or path.name.endswith(".building")]


def assert_names_it(command, said):
    """One line tells what went wrong, behind what a command says of its progress."""
    told = [
        line for line in said.splitlines() if "No space left" in line or "no space left" in line or " are free" in line
    ]
    assert told and "Traceback" not in said, said
    assert told[-1].startswith((f"cvx {command}: ", "failed: ", "[")), said


def goes_through_once_there_is_room(disk, rooms, *words, store="", **environ):
    """Run a command on a disk with too little room again and again, then with enough."""
    for room in rooms:
        before = {path: it for path, it in contents(disk.outside / "store").items() if ".pulling" not in str(path)}
        disk.fill(room)  # what a pull has fetched is there until it is put in its place
        code, said = disk.cvx(*words, **environ)
        assert code in (1, 2), said
        assert_names_it(words[0], said)
        assert half_written(disk.outside) == []
        disk.clear()
        after = contents(disk.outside / "store")
        assert [str(name) for name, content in before.items() if not after.get(name, b"").startswith(content)] == []
        if store:
            code, said = disk.cvx("doctor", f"--artifacts={store}")
            assert code == 0, said
    code, said = disk.cvx(*words, **environ)
    assert code == 0, said
    return said


@pytest.mark.slow
def test_a_dataset_that_does_not_fit_is_prepared_once_there_is_room(disk, tmp_path):
    words = ["train", *QUICK, f"--artifacts={tmp_path / 'store'}", f"--data={disk.place}/data"]
    goes_through_once_there_is_room(disk, (0, 60_000, 160_000), *words)
    assert [one for one in examine(tmp_path / "store") if one.level == "problem"] == []


@pytest.mark.slow
def test_training_goes_on_once_there_is_room_and_what_it_made_is_reported_and_looked_at(disk, data_root):
    data.load("digits", data_root)
    store, where = f"{disk.place}/store", [f"--artifacts={disk.place}/store", f"--data={data_root}"]
    disk.fill(700_000)
    code, said = disk.cvx("train", *QUICK, *where)
    assert code == 2 and said.splitlines()[-1].startswith("cvx train: ") and "Traceback" not in said, said
    disk.clear()
    assert half_written(disk.outside) == [] and disk.cvx("doctor", where[0])[0] == 0
    (run,) = (disk.outside / "store/runs").iterdir()
    assert (run / "metrics.jsonl").is_file()
    again = [f"--resume={run.name}"] if (run / "state/state.safetensors").is_file() else QUICK
    code, said = disk.cvx("train", *again, *where)
    assert code == 0, said
    for words in (["report", "--num=5"], ["attribute", "digits-test_resnet", "--per_class=1"]):
        goes_through_once_there_is_room(disk, (0, 20_000), *words, "--device=cpu", where[0], store=store)


@pytest.mark.slow
def test_what_compare_finds_is_written_once_there_is_room(disk, made):
    store = f"{disk.place}/store"
    shutil.copytree(made, disk.outside / "store")
    words = ["compare", *MODELS, "--num=8", "--device=cpu", f"--artifacts={store}"]
    goes_through_once_there_is_room(disk, (0, 30_000, 100_000), *words, store=store)
    assert list((disk.outside / "store/compare").rglob("agreement.csv"))


@pytest.mark.slow
def test_a_sweep_goes_on_once_there_is_room_and_keeps_its_trials(disk, tmp_path):
    (tmp_path / "toy.py").write_text(PROGRAM)
    path = write(tmp_path, parameters={"x": {"values": [0.1, 0.2, 0.3]}})
    store = f"{disk.place}/store"
    for room in (0, 20_000, 40_000):
        disk.fill(room)
        code, said = disk.cvx("sweep", path, "--resume", f"--artifacts={store}")
        assert code in (1, 2) and "No space left" in said and "Traceback" not in said, said
        disk.clear()
        assert [one for one in check_results.sweeps(disk.outside / "store") if one.level == "problem"] == []
    code, said = disk.cvx("sweep", path, "--resume", f"--artifacts={store}")
    assert code == 0, said
    content = json.loads((disk.outside / "store/sweeps/toy/result.json").read_text())
    assert sorted(one["values"]["x"] for one in content["trials"] if one["status"] == "finished") == [0.1, 0.2, 0.3]


@pytest.mark.slow
def test_a_pull_goes_on_once_there_is_room_in_the_store(wandb_server, disk, made):
    publish(made / "runs/run-a", WHERE, HASTY)
    words, store = ["pull", "tester/maps", "--alias=all"], f"{disk.place}/store"
    said = goes_through_once_there_is_room(
        disk, (0, 60_000, 800_000), *words, f"--artifacts={store}", store=store, WANDB_SERVICE=""
    )
    assert "0 refused" in said
    pulled = {path.parent.parent.name for path in (disk.outside / "store").rglob("card.json")}
    assert pulled == {"tiles", "tiles-test_resnet"} and not (disk.outside / "store/.pulling").exists()


@pytest.mark.slow
def test_a_pull_needs_no_room_in_a_cache_of_its_own_and_names_a_disk_that_has_none(wandb_server, disk, made, tmp_path):
    publish(made / "runs/run-a", WHERE, HASTY)
    here = tmp_path / "here"
    goes_through_once_there_is_room(disk, (0,), "pull", "tester/maps", f"--artifacts={here}", **on(disk))
    assert Store(here).resolve("tiles-test_resnet").load() and list(examine(here))[1:] == []


@pytest.mark.slow
def test_a_run_is_published_once_there_is_room_for_what_is_on_its_way(wandb_server, disk, made):
    words = ["publish", "run-a", "--project=maps", f"--artifacts={made}"]
    goes_through_once_there_is_room(disk, (0, 300_000, 900_000), *words, **on(disk))
    assert_arrived(wandb_server, made / "runs/run-a")
    assert [one for one in examine(made) if one.level == "problem"] == []
    assert not list(disk.outside.glob("wandb/cvx-wandb-*")), "nothing of what was on its way is left"


def on(disk):
    """Let wandb keep all that is on its way on a disk."""
    folder = f"{disk.place}/wandb"
    (disk.outside / "wandb").mkdir()
    own = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR", "TMPDIR")
    return {"WANDB_SERVICE": "", **dict.fromkeys(own, folder)}


@pytest.mark.slow
def test_a_store_mounted_read_only_is_read_and_what_would_write_is_one_line(disk, made):
    shutil.copytree(made, disk.outside / "store")
    store = f"{disk.place}/mounted"
    disk.sh(f"mkdir {store} && mount --bind {disk.place}/store {store} && mount -o remount,bind,ro {store}")
    for words in (["doctor"], ["prune"]):
        code, said = disk.cvx(*words, f"--artifacts={store}")
        assert code == 0 and "Traceback" not in said, said
    asked = ["--device=cpu", f"--artifacts={store}"]
    for words in (["attribute", MODELS[0], "--per_class=1"], ["compare", *MODELS, "--num=4"], ["report", "--num=4"]):
        code, said = disk.cvx(*words, *asked)
        assert code == 2 and "Traceback" not in said, said
        assert said.splitlines()[-1].startswith(f"cvx {words[0]}: ") and "Read-only file system" in said, said
    assert contents(disk.outside / "store") == contents(made)


# too large a file, with no disk of its own


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
    with pytest.raises(OSError, match=str(tmp_path / "samples")):
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
from sweeping import PROGRAM, write
from cvx.store import Store
from cvx.store.maintenance import check_results, examine
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
