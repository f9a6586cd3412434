"""Sweeps run as a person runs them: real processes, killed, resumed, shared; the ledger loses and repeats nothing."""

import collections
import itertools
import os
import re
import signal
import time

import pytest
from sweeping import PROGRAM, finished, result, runs, start, sweep, wait, write, xs

from cvx.store.runs import new_run_name
from cvx.sweeps import runner


@pytest.fixture
def place(tmp_path):
    (tmp_path / "toy.py").write_text(PROGRAM)
    return tmp_path


def test_a_grid_visits_the_product_once_and_names_the_best(place, capsys):
    path = write(place, parameters={"x": {"values": [0.1, 0.3, 0.9]}, "epochs": {"values": [1, 2]}})
    assert sweep(path, "--jobs=2") == 0
    found = result(place)
    seen = sorted((one["values"]["x"], one["values"]["epochs"]) for one in found["trials"])
    assert seen == sorted(itertools.product([0.1, 0.3, 0.9], [1, 2]))
    assert all(one["status"] == "finished" for one in found["trials"])
    assert found["best"] in {run.name for run in runs(place)}
    assert found["command"].endswith("toy.py --x=0.3 --epochs=2")
    for one in found["trials"]:
        assert one["value"] == pytest.approx((one["values"]["x"] - 0.3) ** 2 + 1 / one["values"]["epochs"])
    heard = capsys.readouterr()
    assert "x=0.3" in heard.out and found["command"] in heard.out
    assert len([line for line in heard.err.splitlines() if "finished" in line]) == 6
    for name in ("parallel_coordinates.png", "importance.png"):
        assert (place / "artifacts" / "sweeps" / "toy" / name).read_bytes()[:4] == b"\x89PNG"


def test_the_same_command_again_runs_nothing_twice(place):
    path = write(place, parameters={"x": {"values": [0.1, 0.3]}})
    assert sweep(path) == 0 and sweep(path, "--resume") == 0
    assert xs(place) == [0.1, 0.3]


def test_count_is_of_the_whole_sweep_and_can_be_raised(place):
    path = write(place, method="random", parameters={"x": {"min": 0.0, "max": 1.0}})
    assert sweep(path, "--count=2") == 0 and sweep(path, "--count=2") == 0
    first = xs(place)
    assert len(first) == 2
    assert sweep(path, "--count=3") == 0
    assert len(xs(place)) == 3 and set(first) < set(xs(place))


def test_run_cap_holds_without_a_count(place):
    path = write(place, method="random", run_cap=1, parameters={"x": {"min": 0.0, "max": 1.0}})
    assert sweep(path, "--count=5") == 0
    assert len(xs(place)) == 1


def test_a_target_ends_the_sweep(place):
    path = write(place, metric={"name": "loss", "target": 0.6}, parameters={"x": {"values": [0.9, 0.3, 0.1]}})
    assert sweep(path) == 0
    assert xs(place) == [0.3, 0.9]


def test_a_failed_trial_stops_nobody_and_is_run_again_only_when_asked(place, capsys):
    path = write(place, parameters={"x": {"values": [0.1, 0.5, 0.3]}})
    (place / "fail-0.5").touch()
    assert sweep(path) == 1
    assert xs(place) == [0.1, 0.3] and "the disk is full" in capsys.readouterr().err
    (place / "fail-0.5").unlink()
    assert sweep(path) == 1 and xs(place) == [0.1, 0.3]
    assert sweep(path, "--resume") == 0
    assert xs(place) == [0.1, 0.3, 0.5]
    assert len(result(place)["trials"]) == 3


@pytest.mark.slow
def test_a_sweep_whose_trials_all_fail_gives_up_and_says_why(place, capsys):
    path = write(place, parameters={"x": {"values": [i / 10 for i in range(1, 10)]}})
    for i in range(1, 10):
        (place / f"fail-{i / 10}").touch()
    assert sweep(path) == 2
    assert f"{runner.FAILURES} trials failed in a row; the last: the disk is full" in capsys.readouterr().err
    assert len(list((place / "artifacts" / "sweeps" / "toy" / "logs").glob("*.log"))) == runner.FAILURES


def test_a_trial_that_does_not_record_the_metric_failed_and_says_what_it_recorded(place, capsys):
    path = write(place, metric={"name": "loos"}, parameters={"x": {"values": [0.1]}})
    assert sweep(path) == 1
    assert "recorded no loos; it recorded loss, other" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trial_that_falls_behind_is_really_stopped(place):
    path = write(
        place,
        early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2},
        parameters={"x": {"values": [0.3, 0.5, 9.0]}, "epochs": {"value": 60}, "pause": {"value": 0.05}},
    )
    assert sweep(path, "--jobs=3") == 0
    good, _, bad = sorted(result(place)["trials"], key=lambda one: one["values"]["x"])
    assert (good["status"], bad["status"]) == ("finished", "stopped")
    by_name = {run.name: run for run in runs(place)}
    assert 2 <= len(by_name[bad["run"]].rows()) < 60 == len(by_name[good["run"]].rows())
    assert by_name[bad["run"]].summary is None
    assert not (by_name[bad["run"]].folder / "state").exists() and (by_name[good["run"]].folder / "state").exists()
    assert sweep(path, "--resume") == 0 and len(runs(place)) == 3, "a stopped trial is not run again"


def test_a_changed_file_is_refused_and_another_name_starts_afresh(place, capsys):
    assert sweep(write(place, parameters={"x": {"values": [0.1]}})) == 0
    path = write(place, parameters={"x": {"values": [0.2]}})
    assert sweep(path) == 2
    said = capsys.readouterr().err
    assert "parameters.x changed" in said and "--name=NAME" in said
    assert sweep(path, "--name=other") == 0 and xs(place) == [0.1, 0.2]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--count=-1"], "count must be at least 1"),
        (["--jobs=0"], "jobs must be at least 1"),
        ([], "never ends by itself; give --count=N"),
        (["--count=1", "--save=none"], "need a sweep file whose command is `cvx train`"),
    ],
)
def test_flags_that_make_no_sweep_are_one_line(place, capsys, flags, said):
    path = write(place, method="random", parameters={"x": {"min": 0.0, "max": 1.0}})
    assert sweep(path, *flags) == 2
    heard = capsys.readouterr().err.strip()
    assert said in heard and len(heard.splitlines()) == 1


def test_a_program_that_is_not_there_is_one_line(place, capsys):
    assert sweep(write(place, command=["no-such-program"], parameters={"x": {"values": [1]}})) == 2
    assert "no-such-program" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_share_a_sweep_and_take_no_point_twice(place):
    path = write(place, parameters={"x": {"values": [i / 10 for i in range(8)]}, "pause": {"value": 0.3}})
    both = [start(path, "--jobs=2"), start(path, "--jobs=2")]
    said = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert xs(place) == [i / 10 for i in range(8)] and len(finished(place)) == 8
    shares = [len(re.findall(r"finished", text.partition("sweep toy")[0])) for text in said]
    assert sum(shares) == 8 and min(shares) > 0, said


@pytest.mark.slow
def test_after_sigkill_the_living_trial_is_adopted_and_the_rest_is_run(place):
    slow = {"x": {"values": [0.1, 0.2, 0.3]}, "epochs": {"value": 40}, "pause": {"value": 0.5}}
    path = write(place, parameters=slow)
    first = start(path)
    wait(lambda: len(runs(place)) == 1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not finished(place), "the trial outlives its sweep"
    quick = start(path, "--resume", "--jobs=3")
    said, _ = quick.communicate(timeout=120)
    assert quick.returncode == 0, said
    assert xs(place) == [0.1, 0.2, 0.3] and len(finished(place)) == 3


@pytest.mark.slow
def test_after_sigkill_of_sweep_and_trial_only_what_is_missing_is_run_again(place):
    path = write(place, parameters={"x": {"values": [0.1, 0.2, 0.3]}, "epochs": {"value": 40}, "pause": {"value": 0.2}})
    first = start(path)
    wait(lambda: len(finished(place)) == 1 and len(runs(place)) == 2)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (victim,) = [run for run in runs(place) if run.summary is None]
    pid = (place / "artifacts" / "sweeps" / "toy" / "logs" / f"{victim.name.rpartition('-')[2]}.pid").read_text()
    os.kill(int(pid.split()[1]), signal.SIGKILL)
    assert sweep(path, "--jobs=2") == 0
    statuses = collections.Counter(one["status"] for one in result(place)["trials"])
    assert statuses == {"finished": 2, "killed": 1}, "without --resume a killed trial stays killed"
    assert sweep(path, "--resume") == 0
    assert len(finished(place)) == 3 and len(runs(place)) == 4 and xs(place).count(0.1) == 1


def test_ctrl_c_ends_the_trials_and_says_how_to_go_on(place):
    path = write(place, parameters={"x": {"values": [0.1, 0.2]}, "epochs": {"value": 2000}, "pause": {"value": 0.5}})
    child = start(path, "--jobs=2")
    wait(lambda: sum(bool(run.rows()) for run in runs(place)) == 2)
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 130 and "Traceback" not in said
    assert f"continue with: python -m cvx sweep {path} --jobs=2 --resume" in said
    before = [len(run.rows()) for run in runs(place)]
    time.sleep(0.3)
    assert [len(run.rows()) for run in runs(place)] == before, "no trial goes on"


@pytest.mark.slow
def test_an_adopted_trial_is_ended_by_ctrl_c_too(place):
    path = write(place, parameters={"x": {"values": [0.1]}, "epochs": {"value": 2000}, "pause": {"value": 0.5}})
    first = start(path)
    wait(lambda: any(run.rows() for run in runs(place)))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = start(path, "--resume")
    (run,) = runs(place)
    owners = place / "artifacts" / "sweeps" / "toy" / "owners"
    wait(lambda: len(list(owners.iterdir())) == 2)
    time.sleep(1)
    second.send_signal(signal.SIGINT)
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 130 and "stopped with 0 of 1 trials done" in said, said
    before = len(run.rows())
    time.sleep(0.3)
    assert len(run.rows()) == before, "the trial does not go on"


def test_a_runs_name_ends_with_the_sweeps_id(monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "a1b2c3d4")
    assert re.fullmatch(r"\d{8}-\d{6}-toy-a1b2c3d4", new_run_name("toy"))
    assert new_run_name("toy", "mine").endswith("-toy-mine-a1b2c3d4")
    monkeypatch.setenv("WANDB_RUN_ID", "../up")
    with pytest.raises(ValueError, match="--name must be letters"):
        new_run_name("toy", "../x")
    with pytest.raises(ValueError, match="WANDB_RUN_ID must be letters"):
        new_run_name("toy")
