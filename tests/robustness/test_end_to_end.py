"""The whole way with W&B, by the commands that people type: train, sweep, pull, look, report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gradio_client import Client
from small_store import ROOT, served

from demo.backend.run_history import RunHistory

PROJECT = "tester/maps"
SHORT = {"epochs": 1, "warmup_epochs": 0}
SHORT_FLAGS = [f"--{name}={value}" for name, value in SHORT.items()]


def run(*arguments):
    """Run a module of this Python in the repo's root, as with the environment active, and return what it printed."""
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=active(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def active():
    """Put this Python first on the path, where `wandb agent` looks for `python`."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def small_sweep(folder):
    """Write the starter sweep for two trials of one epoch; its command stays as it is."""
    content = yaml.safe_load((ROOT / "sweeps" / "starter_lr.yaml").read_text(encoding="utf-8"))
    content["run_cap"] = 2
    content["parameters"] |= {name: {"value": value} for name, value in SHORT.items()}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(folder / "sweep.yaml")


def sweep(server, file):
    """Register a sweep and let two agents work on it until it is done; return its runs."""
    run("wandb", "sweep", f"--project={PROJECT.split('/')[1]}", f"--entity={PROJECT.split('/')[0]}", file)
    project = server.state.project(None, "maps")
    (name,) = project.sweeps
    command = [sys.executable, "-m", "wandb", "agent", f"{PROJECT}/{name}"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    agents = [subprocess.Popen(command, cwd=ROOT, env=active(), text=True, **streams) for _ in range(2)]
    said = [agent.communicate(timeout=240)[0] for agent in agents]
    runs = [one for one in project.runs.values() if one.sweep is project.sweeps[name]]
    assert [one.state for one in runs] == ["finished", "finished"], "\n".join(said)
    return runs


@pytest.mark.slow
@pytest.mark.timeout(600)  # ten processes, each of which imports torch
def test_what_is_trained_and_swept_online_is_pulled_looked_at_and_reported(wandb_server, tmp_path):
    online = ["--wandb=on", f"--project={PROJECT}", *SHORT_FLAGS]
    said = run("cvx", "train", "--config=configs/digits_vit.yaml", "--save=best", *online)
    assert "steps are at http" in said
    check_sweep(sweep(wandb_server, small_sweep(tmp_path)))
    here = tmp_path / "here"
    said = run("cvx", "pull", PROJECT, "--alias=all", f"--artifacts={here}")
    assert "7 new, 0 known, 0 refused" in said, said  # the samples, three models, the records of three runs
    check_demo(here)
    check_groups(here)
    check_report(wandb_server, here)


def check_sweep(runs):
    """Each trial ran with the values that W&B gave it, and logged what the sweep judges by."""
    rates = set()
    for one in runs:
        config = {key: value["value"] for key, value in json.loads(one.fields["config"]).items() if key != "_wandb"}
        assert config["epochs"] == 1 and config["model"] == "vit_mini"
        assert "val/loss" in json.loads(one.fields["summaryMetrics"])
        rates.add(config["lr"])
    assert len(rates) == 2


def check_demo(root):
    """Every pulled model answers about a pulled sample."""
    with served(root) as address:
        client = Client(address, verbose=False)
        models = [one["reference"] for one in client.predict(api_name="/models")["models"]]
        assert sorted(models) == [f"digits-vit_mini:v{i}" for i in range(3)]
        answers = client.predict(models, "digits:0", api_name="/compare")["answers"]
    assert [answer["error"] for answer in answers] == [""] * 3
    assert all(answer["norm"] > 0 for answer in answers)


def check_groups(root):
    """The demo knows which runs are trials of one sweep."""
    groups = sorted(past.group for past in RunHistory(root).run_list().of("digits"))
    assert groups[0] == "" and groups[1] and groups[1] == groups[2]


def check_report(server, root):
    """The page, the workspace and the report are there, and the latter two are of this project."""
    said = run("cvx", "report", f"--project={PROJECT}", "--num=8", "--device=cpu", f"--artifacts={root}")
    assert (root / "reports" / "report.html").is_file() and server.url in said
    views = server.state.project(None, "maps").views.values()
    assert {"runs", "project-view"} <= {view.fields["type"] for view in views}
