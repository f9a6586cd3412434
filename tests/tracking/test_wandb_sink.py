"""What is recorded arrives on W&B, whole and once, and W&B never costs a run anything."""

import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from recorded_run import CREATED, EPOCHS, LOGS, record
from wandb_arrivals import assert_arrived, check_artifacts, check_film, stream

from cvx.metrics import classification
from cvx.store.runs import Run, read_rows
from cvx.tracking import Once, Target, target, wandb_sinks
from cvx.tracking.run_link import read_link


@pytest.fixture
def streamed(wandb_server, tmp_path):
    folder, said = stream(tmp_path / "store")
    return wandb_server, folder, said


def test_a_streamed_run_is_on_wandb_as_it_was_recorded(streamed):
    server, folder, said = streamed
    assert_arrived(server, folder)
    run = server.run("maps", folder.name)
    assert (run.state, run.tags, run.fields["groupName"], run.fields["notes"]) == (
        "finished",
        ["quick"],
        "few",
        "why not",
    )
    assert run.fields["jobType"] == "train" and run.fields["displayName"] == folder.name
    config = {key: value["value"] for key, value in json.loads(run.fields["config"]).items() if key != "_wandb"}
    assert config == {"dataset": "tiles", "model": "test_resnet", "lr": 0.1, "epochs": EPOCHS, "key": "k" * 12}
    assert said[0].startswith("W&B: streaming to http") and said[-1].startswith(
        f"W&B: all {EPOCHS * LOGS + 1} steps are at"
    )
    check_times(server.history("maps", folder.name), read_rows(folder))
    check_film(server.history("maps", folder.name), folder)
    check_table(server, folder)
    check_judged(server, folder)
    check_summary(run)
    check_axes(run)
    check_artifacts(server, run)


def check_times(history, rows):
    from datetime import datetime

    times = {row["step"]: datetime.fromisoformat(CREATED).timestamp() + row["time"] for row in rows}
    assert {row["_step"]: row["_timestamp"] for row in history} == pytest.approx(times)


def table_of(server, folder, key):
    """Return a table of the run's last row."""
    value = server.history("maps", folder.name)[-1][key]
    return json.loads(server.state.storage[server.run("maps", folder.name).files[value["path"]]])


def check_judged(server, folder):
    """What the test images were taken for, and how surely, is what the run recorded."""
    summary = Run(folder).summary
    assert dict(table_of(server, folder, "test/per_class_table")["data"]) == summary["per_class_accuracy"]
    names = list(summary["per_class_accuracy"])
    cells = {(label, pred): num for label, pred, num in table_of(server, folder, "test/confusion_chart_table")["data"]}
    assert [[cells[label, pred] for pred in names] for label in names] == summary["confusion"]
    with np.load(folder / "embeddings" / "test.npz") as stored:
        logits, labels = stored["logits"], stored["labels"]
    bins = table_of(server, folder, "test/calibration_table")["data"]
    assert sum(num for _, _, num, _, _ in bins) == len(labels)
    gap = sum(num * abs(right - sure) for _, _, num, sure, right in bins) / len(labels)
    assert gap == pytest.approx(classification.ece(logits, labels), abs=1e-6)


def check_table(server, folder):
    table = table_of(server, folder, "embedding/table")
    with np.load(folder / "embeddings" / "test.npz") as stored:
        logits, ids = stored["logits"], stored["ids"]
    column = table["columns"].index
    assert [row[column("id")] for row in table["data"]] == ids.tolist()
    first = column("logit/red")
    np.testing.assert_allclose([row[first : first + 4] for row in table["data"]], logits)
    np.testing.assert_allclose([row[column("umap/y")] for row in table["data"]], logits[:, 1])
    assert [row[column("correct")] for row in table["data"]] == [
        row[column("label")] == row[column("prediction")] for row in table["data"]
    ]


def check_summary(run):
    summary = json.loads(run.fields["summaryMetrics"])
    assert summary["val/acc1"] == 0.5, "the best one, as a number that a sweep can read"
    assert (summary["test/acc1"], summary["best_epoch"], summary["embedding/pca/knn"]) == (0.75, 1, 0.5)


def check_axes(run):
    defined = json.loads(run.fields["config"])["_wandb"]["value"]["m"]
    names = [one.get("1") or one.get("2") for one in defined]
    axes = {name: defined[int(one["5"]) - 1]["1"] for name, one in zip(names, defined, strict=True) if "5" in one}
    assert axes == {"val/*": "epoch", "maps/*": "epoch", "val/acc1": "epoch"}


@pytest.mark.slow
def test_best_moves_to_a_better_run_only_and_nothing_is_sent_twice(streamed, tmp_path):
    server, _, _ = streamed
    before = len(server.state.uploads)
    stream(tmp_path / "store", name="run-b", acc1=0.4, last=False)
    models = server.state.project(None, "maps").collections["model", "tiles-test_resnet"]
    assert models.find("best").index == 0 and models.find("latest").index == 2
    stream(tmp_path / "store", name="run-c", acc1=0.9, last=False)
    assert models.find("best").index == 3 == models.find("latest").index
    samples = server.state.project(None, "maps").collections["dataset", "tiles-samples"]
    assert len(samples.committed) == 1 and len(samples.committed[0].used_by) == 3
    images = samples.committed[0].contents["images.npy"]["digest"].encode().hex()
    assert not any(images in path for path in server.state.uploads[before:])


@pytest.mark.slow
def test_a_row_that_is_not_a_number_arrives_as_such(streamed):
    server, folder, _ = streamed
    row = server.history("maps", folder.name)[2]
    assert row["_step"] == 2 and math.isnan(row["train/grad_norm"]) and math.isfinite(row["train/loss"])


def test_without_an_account_a_run_records_locally_and_says_how_to_publish(tmp_path, capsys):
    with wandb_sinks("auto", "") as sinks:
        assert capsys.readouterr().err == ""
        record(tmp_path / "store", sinks=sinks)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"python -m cvx publish run-a --artifacts={tmp_path / 'store'}" in said


def test_a_command_that_trains_many_runs_says_once_for_all_of_them_how_to_publish(tmp_path, capsys):
    once = Once()
    for name in ("run-a", "run-b"):
        with wandb_sinks("auto", "", once=once) as sinks:
            record(tmp_path / "store", name=name, sinks=sinks, last=False)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith(f": python -m cvx publish --artifacts={tmp_path / 'store'}\n")


def test_off_says_nothing_and_on_insists(capsys):
    with wandb_sinks("off", "") as sinks:
        assert sinks == []
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="wandb login"), wandb_sinks("on", ""):
        pass


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_mode_means_what_it_means_elsewhere(monkeypatch, wandb_server, tmp_path, mode, capsys):
    monkeypatch.setenv("WANDB_MODE", mode)
    with wandb_sinks("auto", "") as sinks:
        record(tmp_path / "store", sinks=sinks)
    assert f"WANDB_MODE={mode}" in capsys.readouterr().err
    assert wandb_server.requests == []


def test_only_the_first_rank_streams(monkeypatch, wandb_server):
    monkeypatch.setenv("RANK", "1")
    with wandb_sinks("auto", "") as sinks:
        assert sinks == []


def test_a_project_comes_from_the_flag_or_from_wandbs_variables(monkeypatch):
    assert target("") == Target("", "cvx")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert target("") == Target("team", "theirs")
    assert target("maps") == Target("team", "maps")
    assert target("me/maps") == Target("me", "maps")


@pytest.mark.parametrize("text", ["a/b/c", "a b", "me/what?", "me/100%"])
def test_a_project_that_wandb_cannot_have_is_refused(text):
    with pytest.raises(ValueError, match=r"\[ENTITY/\]PROJECT"):
        target(text)


@pytest.mark.slow
def test_a_trial_that_is_stopped_early_sends_every_row_it_recorded(wandb_server, tmp_path, data_root):
    command = [sys.executable, "-m", "cvx", "train", "--dataset=digits", "--model=test_resnet", "--epochs=500"]
    command += ["--precision=fp32", "--wandb=on", "--project=maps", f"--artifacts={tmp_path / 'store'}"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "CVX_DATA": str(data_root)}
    )
    try:
        wandb_server.wait_for(lambda: runs_with_rows(wandb_server), seconds=120)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM, said
    (name,) = runs_with_rows(wandb_server)
    folder = tmp_path / "store" / "runs" / name
    assert_arrived(wandb_server, folder)
    assert wandb_server.run("maps", name).state == "failed" and f"all {read_link(folder).steps} steps are at" in said


def runs_with_rows(server):
    project = server.state.project(None, "maps")
    return [name for name in (project.runs if project else ()) if len(server.history("maps", name)) > 3]
