"""Many processes at one store, begun at the same moment: each version lands once, and no lock outlives its owner.

A few processes here; `make test-long` starts ten (`tests/long`).
"""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from killing import HERE, assert_never_half_written, start
from recorded_run import record
from sweeping import PROGRAM, finished, write, xs

from cvx import data
from cvx.store import Store
from cvx.store.maintenance.finding import is_held

NUM = int(os.environ.get("CVX_PROCESSES", "4"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TOGETHER = """
import os, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
root, num = Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
from cvx import data
from cvx.store import Store
from small_store import add_model, make_splits
splits = make_splits("tiles", 40, 16, 3, True)

def work(number):
    {work}

gate, opener = os.pipe()
children = []
for number in range(num):
    if (child := os.fork()) == 0:
        os.close(opener)
        os.read(gate, 1)  # all begin when the parent opens the gate
        try:
            work(number)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    children.append(child)
os.close(opener)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def together(work, root):
    """Let processes do the same work at the same moment, each with a number of its own."""
    script = TOGETHER.format(work=work.strip().replace("\n", "\n    "))
    ended = subprocess.run(
        [sys.executable, "-c", script, HERE, root, str(NUM)], capture_output=True, text=True, timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def held(root):
    return [path for path in root.rglob("*") if path.name.endswith(".lock") and is_held(path)]


def test_processes_that_need_one_dataset_prepare_it_once(tmp_path):
    together('print(len(data.load("shapes32", root).train.images))', tmp_path)
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1
    assert not list((tmp_path / "cache").glob(".*.building")) and held(tmp_path) == []
    there = data.load("shapes32", tmp_path)
    np.testing.assert_array_equal(there.train.labels[:5], data.load("shapes32", tmp_path).train.labels[:5])


def test_versions_that_processes_store_at_once_all_land_once_and_aliases_lead_to_them(tmp_path):
    work = """
for round in range(3):
    Store(root).add_samples(splits)
    add_model(Store(root), splits, "vit_mini", seed=10 * number + round, **{"val/acc1": (10 * number + round) / 100})
"""
    together(work, tmp_path)
    entries = Store(tmp_path).versions("tiles-vit_mini")
    assert [entry.version for entry in entries] == list(range(3 * NUM))
    runs = [entry.card.run for entry in entries]
    assert sorted(runs) == sorted(f"run-{10 * number + round}" for number in range(NUM) for round in range(3))
    best, latest = (Store(tmp_path).resolve(f"tiles-vit_mini:{alias}") for alias in ("best", "latest"))
    assert best.card.run == f"run-{10 * (NUM - 1) + 2}" and latest.version == 3 * NUM - 1
    assert [path.name for path in (tmp_path / "samples/tiles").iterdir() if path.is_dir()] == ["v0"]
    assert_never_half_written(tmp_path)
    assert held(tmp_path) == []


def test_one_model_that_processes_store_at_once_lands_once(tmp_path):
    work = 'Store(root).add_samples(splits)\nadd_model(Store(root), splits, "vit_mini", seed=7)'
    together(work, tmp_path)
    (entry,) = Store(tmp_path).models()
    assert entry.aliases == ("best", "latest") and held(tmp_path) == []
    assert_never_half_written(tmp_path)


def test_processes_share_a_sweep_and_every_point_is_run_once(tmp_path):
    (tmp_path / "toy.py").write_text(PROGRAM)
    points = [number / 100 for number in range(2 * NUM)]
    path = write(tmp_path, parameters={"x": {"values": points}, "pause": {"value": 5}})
    all_ = [start("-m", "cvx", "sweep", path, "--jobs=1") for _ in range(NUM)]
    said = [one.communicate(timeout=280)[0] for one in all_]
    assert [one.returncode for one in all_] == [0] * NUM, said
    assert xs(tmp_path) == points and len(finished(tmp_path)) == 2 * NUM
    assert sum(len(re.findall("finished", text.partition("sweep toy")[0])) for text in said) == 2 * NUM
    assert held(tmp_path) == []


PUBLISH = """
import sys
from pathlib import Path
from cvx.tracking import Target, publish
sys.exit(publish(Path(sys.argv[1]), Target("", "maps")).missing or 0)
"""


def test_models_of_one_collection_that_processes_publish_at_once_arrive_once_and_aliases_lead_to_them(
    wandb_server, tmp_path
):
    folders = [record(tmp_path / str(i), name=f"run-{i}", acc1=(i + 1) / (NUM + 1)) for i in range(NUM)]
    all_ = [start("-c", PUBLISH, folder, WANDB_SERVICE="") for folder in folders]
    said = [one.communicate(timeout=600)[0] for one in all_]
    assert [one.returncode for one in all_] == [0] * NUM, said
    collections = wandb_server.state.project(None, "maps").collections
    (models,) = [one for (kind, _), one in collections.items() if kind == "model"]
    digests = [version.digest for version in models.committed]
    assert len(set(digests)) == len(digests) and {one.created_by.name for one in models.committed} == {
        f"run-{i}" for i in range(NUM)
    }
    for alias in ("best", "latest"):
        assert len([one for one in models.committed if alias in one.aliases]) == 1, alias
