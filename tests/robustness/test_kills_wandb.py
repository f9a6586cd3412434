"""A `publish` or `pull` that is killed at any moment is completed by the next one, and nothing is there twice.

A few rounds here; `make test-long` runs hundreds (`tests/long`).
"""

import collections
import json
import shutil
import time

import numpy as np
import pytest
from killing import LONGEST_S, ROUNDS, assert_never_half_written, kill_when_ready, start
from recorded_run import record
from wandb_arrivals import WHERE, assert_arrived, by_step, media, numbers

from cvx.store import Store
from cvx.store.maintenance import examine
from cvx.store.runs import read_rows
from cvx.tracking import Timeouts, publish, pull

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LONGEST_S)]
DEFAULT_TIMEOUTS = Timeouts(appear=3)


PUBLISH = """
import sys
from pathlib import Path
from cvx.tracking import Target, Timeouts, publish
from cvx.tracking.account import logged_in
assert logged_in()
print("ready", flush=True)
sys.exit(publish(Path(sys.argv[1]), Target("", "maps"), Timeouts(appear=3)).missing or 0)
"""
PULL = """
import sys
from cvx.tracking import Target, pull
from cvx.tracking.account import logged_in
assert logged_in()
print("ready", flush=True)
print(pull(sys.argv[1], Target("", "maps"), "all"))
"""


def begin(script, place):
    """Start a process with a wandb service of its own: one that outlived its owner would hold the run's id."""
    return start("-c", script, place, WANDB_SERVICE="")


def measured(script, place):
    """Run a script to its end; return how long it worked."""
    process = begin(script, place)
    assert process.stdout.readline().strip() == "ready"
    begun = time.monotonic()
    said, _ = process.communicate(timeout=250)
    assert process.returncode == 0, said
    return time.monotonic() - begun


def copied(folder, root):
    """Copy the store of a run; return where the run lies there."""
    shutil.copytree(folder.parents[1], root)
    return root / "runs" / folder.name


def versions(server):
    """Count what is on W&B by artifact and digest; those of tables, which W&B makes itself, are left out."""
    return collections.Counter(
        (kind, name, one.digest)
        for (kind, name), collection in server.state.project(None, "maps").collections.items()
        if kind != "run_table"
        for one in collection.committed
    )


def assert_sent_once(server, folder, num_kills):
    """Every recorded step is there once and right; after a kill one more may hold tables whose row came without them."""
    history, recorded = server.history("maps", folder.name), by_step(read_rows(folder))
    own = [row for row in history if row["_step"] not in recorded]
    assert len(own) <= num_kills and all(numbers(row) == {} for row in own)
    assert [row["_step"] for row in history if row["_step"] in recorded] == sorted(recorded)
    for row in history:
        assert numbers(row) == pytest.approx(recorded.get(row["_step"], {})), f"step {row['_step']}"
    newest = {key: value for row in history for key, value in row.items()}
    names = [name for row in history for value in row.values() for name in media(value) if name.endswith(".png")]
    names += [name for value in newest.values() for name in media(value)]
    run = server.run("maps", folder.name)
    assert names and [name for name in names if run.files.get(name) not in server.state.storage] == []


def fresh(server):
    """Forget all that was sent, as a server that nobody wrote to."""
    with server.lock:
        server.state.projects.clear()
        server.state.storage.clear()
        server.state.uploads.clear()


def test_a_publish_that_is_killed_again_and_again_sends_everything_once(wandb_server, tmp_path):
    template = record(tmp_path / "recorded")
    longest_s = measured(PUBLISH, copied(template, tmp_path / "straight"))
    assert_arrived(wandb_server, template)
    expected = versions(wandb_server)
    assert set(expected.values()) == {1}
    random, kills, rounds = np.random.default_rng(5), 0, 0
    while kills < ROUNDS:
        fresh(wandb_server)
        folder = copied(template, tmp_path / f"killed-{rounds}")
        before = kills
        for _ in range(min(5, ROUNDS - kills)):
            kills += kill_when_ready(begin(PUBLISH, folder), float(random.uniform(0, 0.8 * longest_s)))
            assert_never_half_written(folder.parents[1])
        measured(PUBLISH, folder)
        assert_sent_once(wandb_server, folder, kills - before)
        assert versions(wandb_server) == expected
        assert publish(folder, WHERE, DEFAULT_TIMEOUTS).sent == 0
        rounds += 1


def test_a_pull_that_is_killed_again_and_again_brings_everything_whole(wandb_server, tmp_path):
    folder = record(tmp_path / "there")
    publish(folder, WHERE, DEFAULT_TIMEOUTS)
    longest_s = measured(PULL, tmp_path / "straight")
    expected = contents(tmp_path / "straight")
    random, kills, rounds = np.random.default_rng(6), 0, 0
    while kills < ROUNDS:
        root = tmp_path / f"killed-{rounds}"
        for _ in range(min(5, ROUNDS - kills)):
            kills += kill_when_ready(begin(PULL, root), float(random.uniform(0, 0.8 * longest_s)))
            assert_never_half_written(root)
        assert "refused" not in {one.status for one in pull(root, WHERE, "all")}
        assert contents(root) == expected
        assert [one for one in examine(root) if one.level == "problem"] == []
        assert {one.status for one in pull(root, WHERE, "all")} == {"known"}
        rounds += 1


def contents(root):
    """Return what a store holds, without the clock."""
    models = [(entry.reference, entry.aliases, entry.card.sha256) for entry in Store(root).models()]
    samples = [path.relative_to(root).as_posix() for path in sorted((root / "samples").rglob("*.npy"))]
    run = root / "runs" / "run-a"
    records = {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    link = json.loads(records.pop("wandb.json"))
    return models, samples, {name: value for name, value in records.items() if name != ".lock"}, link["pulled"]
