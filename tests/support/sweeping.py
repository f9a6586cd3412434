"""A toy program to sweep, and sweeps of it as a person starts them."""

import json
import subprocess
import sys
import time

import yaml

from cvx.__main__ import main
from cvx.store.runs import list_runs

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from cvx.store.runs import RunWriter, new_run_name

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
values = dict(argument[2:].split("=") for argument in sys.argv[1:])
x, pause, here = float(values["x"]), float(values.get("pause", 0)), Path(__file__).parent
if (here / f"fail-{values['x']}").exists():
    sys.exit("the disk is full")
writer = RunWriter.create(Path(os.environ["CVX_ARTIFACTS"]) / "runs" / new_run_name("toy"), {"values": values})
(writer.folder / "state").mkdir()
for epoch in range(int(values.get("epochs", 2))):
    writer.log(epoch, epoch, {"loss": (x - 0.3) ** 2 + 1 / (epoch + 1), "other": 1.0})
    time.sleep(pause * x)
writer.finish({"x": x})
"""


def write(place, name="toy", **changes):
    content = {
        "program": str(place / "toy.py"),
        "command": ["${interpreter}", "${program}", "${args}"],
        "method": "grid",
        "metric": {"name": "loss"},
        **changes,
    }
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def result(place, name="toy"):
    return json.loads((place / "artifacts" / "sweeps" / name / "result.json").read_text())


def runs(place):
    return list_runs(place / "artifacts")


def xs(place):
    return sorted(float(run.config["values"]["x"]) for run in runs(place))


def sweep(path, *flags):
    return main(["sweep", str(path), *flags])


def start(path, *flags):
    command = [sys.executable, "-m", "cvx", "sweep", str(path), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finished(place):
    return [run for run in runs(place) if run.summary is not None]
