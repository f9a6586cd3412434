"""Which points a sweep draws, which trial is best, and what a terminal shows of all."""

import re
import resource

import pytest
from sweeping import PROGRAM, write

from cvx.sweeps import sweep_file
from cvx.sweeps.display import best
from cvx.sweeps.trials import Ledger, Trial


@pytest.fixture
def place(tmp_path):
    (tmp_path / "toy.py").write_text(PROGRAM)
    return tmp_path


def test_a_terminal_sees_running_best_and_newest_trials_and_what_became_of_all(place):
    import io

    from rich.console import Console
    from rich.live import Live

    from cvx.sweeps import display

    plan = sweep_file.read(write(place, parameters={"x": {"values": list(range(40))}}))
    statuses = ["finished"] * 30 + ["failed"] * 9 + ["running"]
    trials = [
        Trial(i, "", str(i), {"x": i}, status, history=(100.0 - i,) if status == "finished" else (), seconds=1000 + i)
        for i, status in enumerate(statuses)
    ]
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with Live(console=console, auto_refresh=False) as live:
        display._Table(plan, live).show(trials, {39: 7.0})
    said = console.file.getvalue()
    assert "1 running, 30 finished, 9 failed" in said and "running epoch 7.0" in said
    shown = [int(number) for number in re.findall(r"│\s+(\d+) │\s+\d+ │", said)]
    assert shown[:3] == [29, 28, 27] and len(set(shown)) == display.MAX_ROWS and 38 in shown


def ledger(place, name, **changes):
    path = write(place, name, parameters={"x": {"min": 0.0, "max": 1.0}, "k": {"values": ["a", "b"]}}, **changes)
    return Ledger(place / "sweeps" / name, sweep_file.read(path))


def drain(one, count, score):
    drawn = []
    while (trial := one.claim(count)) is not None:
        one.settle(trial, "finished", score(trial.values))
        drawn.append(trial.values)
    one.close()
    return drawn


def test_random_points_depend_on_the_seed_alone(place):
    a, b = (drain(ledger(place, name, method="random"), 5, lambda _: 0.0) for name in "ab")
    assert a == b and len({values["x"] for values in a}) == 5


@pytest.mark.slow
def test_bayes_looks_where_it_is_good(place):
    def loss(values):
        return (values["x"] - 0.7) ** 2 + (values["k"] == "b")

    searched = drain(ledger(place, "bayes", method="bayes"), 30, loss)
    late = sorted(loss(values) for values in searched[15:])
    assert late[7] < 0.02, "by chance the median would be above 0.4"
    assert sum(values["k"] == "a" for values in searched[15:]) >= 10


def test_a_space_with_few_points_is_used_up_without_a_repeat(place):
    path = write(place, method="random", parameters={"k": {"values": ["a", "b", "c"]}})
    drawn = drain(Ledger(place / "sweeps" / "few", sweep_file.read(path)), 10, lambda _: 0.0)
    assert sorted(values["k"] for values in drawn) == ["a", "b", "c"]


def test_the_best_is_a_finished_trial_and_a_stopped_one_is_not(place):
    plan = sweep_file.read(write(place, parameters={"x": {"values": [1, 2]}}))
    stopped, done = (
        Trial(i, "", str(i), {"x": i}, status, history=(value,))
        for i, (status, value) in enumerate([("stopped", 0.1), ("finished", 0.5)])
    )
    assert best(plan, [stopped, done]) == done and best(plan, [stopped]) is None


def test_half_a_line_that_a_killed_process_or_a_full_disk_left_loses_no_trial(place):
    path = write(place, method="random", parameters={"x": {"values": list(range(9))}})
    folder = place / "sweeps" / "cut"
    before = drain(Ledger(folder, sweep_file.read(path)), 3, lambda _: 0.0)
    journal = folder / "trials.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"wor')
    again = Ledger(folder, sweep_file.read(path))
    assert [trial.values for trial in again.trials()] == before and journal.read_bytes().startswith(whole)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size + 30, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            again.claim(None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    again.close()
    assert journal.read_bytes().endswith(b"\n")
    assert before + drain(Ledger(folder, sweep_file.read(path)), 9, lambda _: 0.0) == [
        trial.values for trial in Ledger(folder, sweep_file.read(path)).trials()
    ]
