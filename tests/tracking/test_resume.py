"""A run that is resumed, reached late or cut off is on W&B whole, in order, and in a run of its own."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recorded_run import EPOCHS, LOGS, record
from wandb_arrivals import HASTY, WHERE, assert_arrived, check_film, stream
from wandb_server.objects import HISTORY
from wandb_server.state import Run, Sweep

from cvx.files import read_json, write_json
from cvx.tracking import WandbSink, publish
from cvx.tracking.run_link import FILE, read_link

pytestmark = pytest.mark.slow
STEPS = EPOCHS * LOGS + 1
SUPPORT = Path(__file__).parents[1] / "support"
KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from wandb_arrivals import stream
def after(step):
    if step == 6:
        print("ready", flush=True)
        sys.stdin.readline()
        os.kill(os.getpid(), signal.SIGKILL)
stream(sys.argv[1], name=sys.argv[3], after=after)
"""


def steps_at(server, name="run-a"):
    project = server.state.project(None, "maps")
    return [row["_step"] for row in server.history("maps", name)] if project and name in project.runs else []


def test_what_was_recorded_without_wandb_is_sent_first_when_the_run_is_resumed(wandb_server, tmp_path):
    record(tmp_path / "store", stop=6)
    folder, said = stream(tmp_path / "store", begin=6)
    assert_arrived(wandb_server, folder)
    check_film(wandb_server.history("maps", "run-a"), folder)
    assert said[-1].startswith(f"W&B: all {STEPS} steps are at")
    summary = json.loads(wandb_server.run("maps", "run-a").fields["summaryMetrics"])
    assert summary["val/acc1"] == 0.5, "the best one lies before the resume"
    assert read_link(folder).complete and publish(folder, WHERE, HASTY).sent == 0


def begin_to_be_killed(root, name):
    """Start a process that streams a run, and waits at step 6 to be told to kill itself."""
    command = [sys.executable, "-c", KILLED, str(root), str(SUPPORT), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_killed_runs_that_are_resumed_have_no_hole(wandb_server, tmp_path):
    """One is killed while it streams, one while W&B is away; they are resumed side by side."""
    names, before, sinks, said = ("run-a", "run-b"), {}, {}, {"run-a": [], "run-b": []}
    processes = {name: begin_to_be_killed(tmp_path / name, name) for name in names}
    for name, process in processes.items():
        assert process.stdout.readline() == "ready\n"
        wandb_server.wait_for(lambda name=name: steps_at(wandb_server, name))
    for process in processes.values():
        process.communicate("die\n", timeout=60)
        assert process.returncode == -signal.SIGKILL
        wandb_server.fail("down")  # before the second of them
    for name in names:
        before[name] = steps_at(wandb_server, name)
        assert before[name] and max(before[name]) < 7
    wandb_server.heal()
    for name in names:
        sinks[name] = WandbSink(WHERE, HASTY, said[name].append)
        record(tmp_path / name, name=name, begin=4, sinks=[sinks[name]])
    for name in names:
        sinks[name].close()
        folder = tmp_path / name / "runs" / name
        assert_arrived(wandb_server, folder)
        check_film(wandb_server.history("maps", name), folder)
        assert said[name][-1].startswith(f"W&B: all {STEPS} steps are at"), said


def lose_older_rows(server, name):
    """Leave W&B with the newest rows of a run only, as releases did that sent after a resume what came after it."""
    lines = server.run("maps", name).stream(HISTORY)
    del lines[: len(lines) - 3]


def test_a_run_that_lacks_older_steps_is_published_whole_under_a_new_id_unless_it_is_a_sweeps(
    wandb_server, tmp_path, monkeypatch
):
    name = "run-a1b2c3d4"
    folder, said = record(tmp_path / "store", name=name), []
    content = read_json(folder / "config.json")
    write_json(folder / "config.json", {**content, "place": {**content["place"], "sweep": "s1"}})
    monkeypatch.setenv("WANDB_RUN_ID", "a1b2c3d4")
    publish(folder, WHERE, HASTY)
    lose_older_rows(wandb_server, "a1b2c3d4")
    missing = publish(folder, WHERE, HASTY).missing
    assert missing.startswith(f"{STEPS - 3} steps did not arrive; W&B takes no step older than the last one it has")
    assert list(wandb_server.state.project(None, "maps").runs) == ["a1b2c3d4"], "a sweep's run keeps its id"
    assert str(folder / FILE) in missing
    monkeypatch.delenv("WANDB_RUN_ID")  # what the message says to do
    (folder / FILE).unlink()
    assert publish(folder, WHERE, HASTY).missing == "" and read_link(folder).id == name
    assert_arrived(wandb_server, folder)

    lose_older_rows(wandb_server, name)
    done = publish(folder, WHERE, HASTY, say=said.append)
    again = f"{name}-again2"
    assert (done.sent, done.steps, done.missing) == (STEPS, STEPS, "")
    assert read_link(folder).id == again and done.url.endswith(f"/{again}")
    assert steps_at(wandb_server, again) == list(range(STEPS))
    assert len(said) == 1 and f"lacks {STEPS - 3} steps" in said[0] and f"sent whole as {again}" in said[0]
    models = wandb_server.state.project(None, "maps").collections["model", "tiles-test_resnet"]
    assert len(models.committed) == 2, "the models are there already"
    assert publish(folder, WHERE, HASTY).sent == 0


def test_a_wandb_that_comes_late_is_caught_up_with_while_training_goes_on(wandb_server, tmp_path):
    """It is down, then refuses in two ways, and then is there."""
    said, streamed, failures = [], [], []

    def fail_next(kind):
        failures.append(wandb_server.fail(kind))
        del wandb_server.failures[:-1]

    def after(step):
        if step == 1:
            for kind in (404, 401):
                wandb_server.wait_for(lambda: failures[-1].hits and said)
                fail_next(kind)
            wandb_server.wait_for(lambda: failures[-1].hits)
            wandb_server.heal()
        if step == 6:
            wandb_server.wait_for(lambda: steps_at(wandb_server))
            streamed.extend(steps_at(wandb_server))

    fail_next("down")
    sink = WandbSink(WHERE, dataclasses.replace(HASTY, connect=2), said.append)
    folder = record(tmp_path / "store", sinks=[sink], after=after)
    sink.close()
    assert "tried again while training goes on" in said[0] and said[1].startswith("W&B: streaming to")
    assert streamed[0] == 0 and said[-1].startswith(f"W&B: all {STEPS} steps are at") and len(said) == 3
    assert_arrived(wandb_server, folder)


def test_a_stream_that_was_refused_once_is_opened_again_while_training_goes_on(wandb_server, tmp_path):
    """wandb ends a run's stream at one 404, and tells nobody."""
    said = []

    def after(step):
        if step == 1:
            wandb_server.wait_for(lambda: steps_at(wandb_server))
            wandb_server.fail(404, pattern="file_stream", times=1)
        if step > 1:
            wandb_server.wait_for(lambda: wandb_server.failures[0].hits)
            sink.log({})  # time passes, and rows come
        if step == EPOCHS * LOGS - 1:
            for _ in range(150):
                if any("tried again" in line for line in said):
                    break
                time.sleep(0.1)
                sink.log({})
            wandb_server.wait_for(lambda: max(steps_at(wandb_server)) >= 4)

    sink = WandbSink(WHERE, dataclasses.replace(HASTY, look=1), said.append)
    folder = record(tmp_path / "store", sinks=[sink], after=after)
    sink.close()
    assert "has taken no row since step" in said[1] and said[-1].startswith(f"W&B: all {STEPS} steps are at"), said
    assert_arrived(wandb_server, folder)


def test_code_and_samples_that_are_refused_cost_no_row(wandb_server, tmp_path):
    refused = [wandb_server.fail(404, pattern=f"CreateArtifact {kind}") for kind in ("code", "dataset")]
    folder, said = stream(tmp_path / "store", last=False)
    assert all(failure.hits for failure in refused) and said[0].startswith("W&B: streaming to")
    assert said[-1].startswith(f"W&B: all {STEPS} steps are at") and len(said) == 2
    assert_arrived(wandb_server, folder)


def test_what_a_stream_lost_at_the_end_is_sent_by_another(wandb_server, tmp_path):
    def after(step):
        if step == 6:
            wandb_server.wait_for(lambda: steps_at(wandb_server))
            wandb_server.fail(404, pattern="file_stream", times=1)

    folder, said = stream(tmp_path / "store", after=after)
    assert said[-1].startswith(f"W&B: all {STEPS} steps are at"), said
    assert_arrived(wandb_server, folder)


def test_two_trainings_with_one_run_id_get_a_run_each(wandb_server, tmp_path, monkeypatch):
    """The first takes the run that an agent made for it."""
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    project = wandb_server.state.project(None, "maps", create=True)
    project.runs["mine"] = Run(project, "mine", state="pending")
    record(tmp_path / "store", name="run-a", stop=6)
    first, _ = stream(tmp_path / "store", name="run-a", begin=6)
    second, said = stream(tmp_path / "store", name="run-b", acc1=0.4, last=False)
    assert read_link(first).id == "mine" and read_link(second).id == "run-b"
    assert "is the run of run-a; run-b gets one of its own, run-b" in said[0]
    runs = wandb_server.state.project(None, "maps").runs
    assert {name: run.fields["displayName"] for name, run in runs.items()} == {"mine": "run-a", "run-b": "run-b"}
    assert steps_at(wandb_server, "mine") == steps_at(wandb_server, "run-b") == list(range(STEPS))
    (first / FILE).unlink()  # lost, or killed before it was written: the run there is known by its name
    assert publish(first, WHERE, HASTY).missing == "" and read_link(first).id == "mine"


def test_a_trial_of_an_agent_that_is_resumed_continues_its_run(wandb_server, tmp_path, monkeypatch):
    project = wandb_server.state.project(None, "maps", create=True)
    project.sweeps["s1"] = Sweep(project, "s1", "method: random")
    project.runs["given"] = Run(project, "given", state="pending", sweep=project.sweeps["s1"])
    for name, value in (("SWEEP_ID", "s1"), ("RUN_ID", "given"), ("PROJECT", "maps")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    stream(tmp_path / "store", stop=6)
    folder, said = stream(tmp_path / "store", begin=6)
    assert steps_at(wandb_server, "given") == list(range(STEPS)) and list(project.runs) == ["given"]
    assert read_link(folder).id == "given" and said[-1].startswith(f"W&B: all {STEPS} steps are at")
