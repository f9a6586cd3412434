"""The best model of all runs has the alias `best`, also where runs end together."""

import json
import os
import subprocess
import sys

import pytest
from recorded_run import record
from wandb_arrivals import HASTY
from wandb_server.state import Collection, Version

from cvx.tracking.best_alias import update_best_alias

NAME = "tiles-test_resnet"


def models(server):
    return server.state.project(None, "maps").collections["model", NAME]


def start(root):
    command = [sys.executable, "-m", "cvx", "publish", "--project=maps", f"--artifacts={root}"]
    return subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_two_runs_that_end_together_agree_on_the_better_one(wandb_server, tmp_path):
    """Whoever is first to move the alias is held up, so that the other one's move comes in between."""
    for name, acc1 in (("run-a", 0.9), ("run-b", 0.4)):
        record(tmp_path / name, name=name, acc1=acc1, last=False)
    held = wandb_server.fail("slow", pattern="AddAliases", times=1, seconds=6)
    processes = [start(tmp_path / name) for name in ("run-b", "run-a")]
    words = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(words)
    assert held.hits == 1 and len(models(wandb_server).committed) == 2
    assert models(wandb_server).find("best").created_by.name == "run-a"
    assert [one.aliases.count("best") for one in models(wandb_server).committed].count(1) == 1


def put(server, *facts):
    """Let W&B hold versions that say this of themselves."""
    project = server.state.project(None, "maps", create=True)
    found = project.collections["model", NAME] = Collection(project, "model", NAME)
    for index, one in enumerate(facts):
        found.versions.append(Version(found, f"d{index}", state="COMMITTED", index=index, metadata=json.dumps(one)))
    return found


def said(acc1, role="best"):
    return {"role": role, "metrics": {"val/acc1": acc1}}


@pytest.mark.parametrize(
    ("facts", "best"),
    [
        ([said(0.5), said(0.9), said(0.7)], 1),
        ([said(0.9), said(0.9)], 1),  # of equals the newer
        ([said(0.2), said(0.99, "last")], 0),  # a run's last weights never outrank any run's best
        ([said(0.0), {}, {"metrics": None}, said("high"), said(float("nan")), said(True)], 0),
        ([{}, said(None)], 1),
    ],
)
def test_the_best_is_found_whoever_had_the_alias(wandb_server, facts, best):
    found = put(wandb_server, *facts)
    update_best_alias("tester/maps", NAME, HASTY)
    assert found.find("best").index == best
    for one in found.committed:
        found.move_alias("best", one)
        update_best_alias("tester/maps", NAME, HASTY)
        assert found.find("best").index == best


def test_a_move_that_another_run_undid_is_made_again(wandb_server):
    """A worse version takes the alias just after the better one got it: the look that follows sees that."""
    found = put(wandb_server, said(0.9), said(0.4))
    moves = []
    move = found.move_alias

    def undone_once(alias, version):
        move(alias, version)
        moves.append(version.index)
        if len(moves) == 1:
            move("best", found.committed[1])

    found.move_alias = undone_once
    update_best_alias("tester/maps", NAME, HASTY)
    assert found.find("best").index == 0 and moves == [0, 0]


def test_a_name_with_no_version_is_left_alone(wandb_server):
    put(wandb_server)
    update_best_alias("tester/maps", NAME, HASTY)
