"""Every sweep file's own command trains: one trial each, on data that is at hand and for one epoch."""

import dataclasses
import json

import pytest
import yaml
from small_store import ROOT

from cvx.__main__ import main
from cvx.config import parse
from cvx.store.runs import list_runs

FILES = sorted((ROOT / "sweeps").glob("*.yaml"))
SMALL = {"dataset": "digits", "epochs": 1, "warmup_epochs": 0, "val_fraction": 0.1}


def fixed(parameters, preset):
    """Make a sweep small: another dataset, one epoch, timm's smallest model of the preset's kind."""
    model = "test_vit" if "vit" in preset else "test_resnet"
    return {**parameters, **{name: {"value": value} for name, value in {**SMALL, "model": model}.items()}}


@pytest.mark.slow
@pytest.mark.timeout(300)  # a process that imports torch and timm and trains
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_one_trial_of_every_sweep_file_trains_by_the_files_own_command(file, tmp_path, monkeypatch):
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    swept, metric = content["parameters"], content["metric"]["name"]
    presets = swept["config"].get("values") or [swept["config"]["value"]]
    content["parameters"] = fixed(swept, presets[0])
    (tmp_path / file.name).write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.chdir(ROOT)
    assert main(["sweep", str(tmp_path / file.name), "--count=1", f"--artifacts={tmp_path / 'store'}"]) == 0
    (run,) = list_runs(tmp_path / "store")
    assert run.summary is not None and any(metric in row for row in run.rows())
    config, preset = run.config["config"], dataclasses.asdict(parse([f"--config={presets[0]}"])[0])
    own = set(preset) - set(content["parameters"])
    assert {name: config[name] for name in own} == {name: preset[name] for name in own}, "the rest is the preset's"
    for name, space in swept.items():
        if name in config and name not in SMALL:
            assert within(config[name], space), (name, json.dumps(space))


def within(value, space):
    """Tell whether a value is one that its distribution gives."""
    if "values" in space or "value" in space:
        return value in space.get("values", [space.get("value")])
    return space["min"] <= value <= space["max"]
