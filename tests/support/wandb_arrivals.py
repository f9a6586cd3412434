"""What a stand-in for W&B has received, compared with what a run recorded."""

import dataclasses
import json

import numpy as np
import pytest
from recorded_run import EPOCHS, LOGS, record

from cvx.store.runs import read_rows
from cvx.tracking import Target, Timeouts, WandbSink

HASTY = Timeouts(connect=5, ask=3, finish=3, artifact=9, appear=1, poll=0.5, pause=0.3)
IMPATIENT = dataclasses.replace(HASTY, connect=3, ask=2, finish=1)
"""For a server that is known to be gone."""
WHERE = Target("", "maps")


def stream(root, timeouts=HASTY, **options):
    """Record a run while a sink streams it; return its folder and what a person read."""
    said = []
    sink = WandbSink(WHERE, timeouts, said.append)
    folder = record(root, sinks=[sink], **options)
    sink.close()
    return folder, said


def by_step(rows):
    """Merge recorded rows of one step, as W&B shows one row a step."""
    merged = {}
    for row in rows:
        merged.setdefault(row["step"], {}).update({k: v for k, v in row.items() if k not in ("step", "time")})
    return merged


def numbers(row):
    """Return a W&B row's numbers, without W&B's own and without media."""
    plain = {key: value for key, value in row.items() if not key.startswith("_") and not isinstance(value, dict)}
    return {key: None if value != value else value for key, value in plain.items()}


def assert_arrived(server, folder, project="maps"):
    """Every recorded number is there, each step once, in order."""
    recorded, history = by_step(read_rows(folder)), server.history(project, folder.name)
    assert [row["_step"] for row in history] == sorted(recorded)
    for row in history:
        assert numbers(row) == pytest.approx(recorded[row["_step"]]), f"step {row['_step']}"
    names = [name for row in history for value in row.values() for name in media(value)]
    run = server.run(project, folder.name)
    lost = [name for name in names if run.files.get(name) not in server.state.storage]
    assert names and not lost


def media(value):
    if not isinstance(value, dict):
        return []
    return value.get("filenames") or ([value["path"]] if "path" in value else [])


def check_film(history, folder):
    frames = {row["_step"]: row["film"] for row in history if "film" in row}
    assert sorted(frames) == [epoch * LOGS for epoch in range(EPOCHS + 1)]
    for frame in frames.values():
        assert len(frame["captions"]) == 32
        assert all(
            "label " in text and "predicted " in text and "gradient of the logit of" in text
            for text in frame["captions"]
        )
    assert frames[0]["width"] == 128 and frames[0]["height"] == 64
    for epoch in range(EPOCHS + 1):
        with np.load(folder / "film" / f"{epoch:04d}.npz") as stored:
            right = stored["logits"].argmax(axis=1) == np.arange(32) % 4  # the dataset's labels go round
        marks = [text.split(" label ")[0] for text in frames[epoch * LOGS]["captions"]]
        assert marks == ["✓" if one else "✗" for one in right] and set(marks) == {"✓", "✗"}


def check_artifacts(server, run):
    collections = server.state.project(None, "maps").collections
    models = collections["model", "tiles-test_resnet"].committed
    assert [one.aliases for one in models] == [["best"], ["latest"]]
    assert json.loads(models[0].metadata)["metrics"]["val/acc1"] == 0.5 and models[0].created_by is run
    assert collections["dataset", "tiles-samples"].committed[0].used_by == [run]
    records = collections["records", "run-a-records"].committed[0]
    assert {"config.json", "metrics.jsonl", "summary.json", "film/0000.npz", "embeddings/test.npz"} <= set(
        records.contents
    )
