"""Sweeps of real training."""

import re
import signal

import pytest
from sweeping import PROGRAM, result, runs, start, sweep, wait, write

from cvx.sweeps import sweep_file


@pytest.fixture
def place(tmp_path):
    (tmp_path / "toy.py").write_text(PROGRAM)
    return tmp_path


def digits(place, **changes):
    tiny = {"dataset": "digits", "model": "vit_mini", "patch_size": 4, "epochs": 1, "batch_size": 256}
    parameters = {name: {"value": value} for name, value in tiny.items()} | changes.pop("parameters")
    command = ["${env}", "${interpreter}", "-m", "cvx", "train", "--warmup_epochs=0", "${args}"]
    metric = {"name": "val/acc1", "goal": "maximize"}
    return write(place, command=command, metric=metric, parameters=parameters, **changes)


@pytest.mark.slow
def test_real_training_sweeps_and_the_printed_command_asks_for_the_same_result(place, capsys):
    from cvx.config import parse
    from cvx.store import Store

    path = digits(place, parameters={"lr": {"values": [1e-5, 1e-3]}})
    assert sweep(path, "--save=none") == 0
    found = result(place)
    (winner,) = [one for one in found["trials"] if one["run"] == found["best"]]
    run = next(run for run in runs(place) if run.name == found["best"])
    rows = run.rows()
    assert winner["value"] == max(row["val/acc1"] for row in rows if "val/acc1" in row)
    assert {key for row in rows for key in row} - {"step", "epoch", "time"} == set(sweep_file.LOGGED)
    assert Store(place / "artifacts").models() == [], "--save=none keeps no weights"
    config, where = parse(re.split(r"cvx train ", found["command"])[1].split())
    assert config.key == run.config["key"] and where.save == "best_last"


@pytest.mark.slow
def test_a_killed_training_continues_from_its_saved_state_in_the_same_run(place):
    path = digits(place, parameters={"lr": {"value": 1e-3}, "epochs": {"value": 30}})
    child = start(path)
    wait(lambda: child.poll() is not None or any(row["epoch"] >= 2 for run in runs(place) for row in run.rows()), 120)
    child.send_signal(signal.SIGTERM)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 143 and "stopped with 0 of 1 trials done" in said, said
    (run,) = runs(place)
    assert (run.folder / "state" / "state.safetensors").is_file() and run.summary is None
    again = start(path, "--resume")
    said, _ = again.communicate(timeout=200)
    assert again.returncode == 0 and f"continues {run.name}" in said, said
    (run,) = runs(place)
    steps = [row["step"] for row in run.rows() if "train/loss" in row]
    assert run.summary["epochs"] == 30 and steps == sorted(set(steps))
