"""What an older cvx wrote is read by this one, and what a newer one will write is refused with a word on what to do."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from kept_store import make_kept_store
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cvx.__main__ import main
from cvx.files import FORMAT, read_json, write_json
from cvx.store import Store
from cvx.store.maintenance import examine
from cvx.store.runs import list_runs
from cvx.sweeps.sweep_file import read
from cvx.sweeps.trials import open_journal
from cvx.training.saved_state import load_state

STORES = Path(__file__).parents[1] / "old_stores" / f"format{FORMAT}"
PACKED = sorted(path.name.split(".")[0] for path in STORES.glob("*.tar.xz"))
NEWER = "install a newer cvx"


@pytest.fixture
def unpack(tmp_path):
    def at(name):
        with tarfile.open(STORES / f"{name}.tar.xz") as packed:
            packed.extractall(tmp_path / name, filter="data")
        return tmp_path / name

    return at


def test_there_is_a_store_of_every_format_and_what_wrote_it_is_told():
    told = (STORES / "README.md").read_text(encoding="utf-8")
    assert PACKED == ["stopped", "swept", "trained"] and all(f"`{name}.tar.xz`" in told for name in PACKED)
    assert all(path.stat().st_size < 200_000 for path in STORES.iterdir())


@pytest.mark.parametrize("name", PACKED)
def test_an_older_store_is_whole(unpack, name):
    assert [one for one in examine(unpack(name)) if one.level == "problem"] == []


def test_an_older_model_gives_the_accuracy_that_its_run_recorded(unpack):
    store = Store(unpack("trained"))
    entries = {entry.reference: entry for entry in store.models()}
    (run,) = list_runs(store.root)
    best, card = entries[run.summary["best"]].load()
    samples = store.samples(card.dataset, card.samples)
    inputs = torch.from_numpy(samples.split.images.copy()).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits = best(inputs).numpy()
    assert (logits.argmax(1) == samples.split.labels).mean() == pytest.approx(
        run.summary["metrics"]["test/acc1"], abs=0.02
    )
    with np.load(run.folder / "embeddings" / "test.npz") as stored:
        assert stored["logits"].shape == logits.shape and stored["umap"].shape == (len(logits), 2)
    assert set(run.frames("film")) == {0, 1, 2} and run.rows()[-1]["epoch"] == 2


def test_an_older_run_that_was_stopped_can_go_on_to_its_end(unpack, capsys, data_root):
    root = unpack("stopped")
    (before,) = list_runs(root)
    rows = before.rows()
    assert main(["train", f"--resume={before.name}", f"--artifacts={root}", f"--data={data_root}", "--device=cpu"]) == 0
    (after,) = list_runs(root)
    assert after.rows()[: len(rows)] == rows and after.rows()[-1]["epoch"] == 4 and after.summary["epochs"] == 4
    assert list(examine(root)) == []


def test_an_older_sweep_goes_on_without_trying_a_point_again(unpack):
    folder = unpack("swept") / "sweeps" / "small"
    import optuna

    study = optuna.load_study(study_name="sweep", storage=open_journal(folder))
    (trial,) = study.get_trials()
    assert trial.state.name == "COMPLETE" and trial.user_attrs["key"]
    assert json.loads((folder / "result.json").read_text())["trials"][0]["status"] == "finished"


OLDER_SWEEP = {
    "program": "cvx",
    "command": ["${interpreter}", "-m", "cvx", "train", "--device=cpu", "${args}"],
    "method": "grid",
    "metric": {"name": "val/acc1", "goal": "maximize"},
    "parameters": {
        **{name: {"value": value} for name, value in {"dataset": "digits", "model": "test_efficientnet"}.items()},
        **{name: {"value": value} for name, value in {"stem": "timm", "epochs": 1, "batch_size": 128}.items()},
        **{"warmup_epochs": {"value": 0.5}, "precision": {"value": "fp32"}, "lr": {"values": [0.001, 0.01]}},
    },
}
"""What `swept.tar.xz` was begun with, but for the command: that one led to the older cvx."""


@pytest.mark.slow
def test_an_older_sweep_is_continued_with_the_points_it_had_not_tried(unpack, tmp_path, data_root, capfd):
    root, path = unpack("swept"), tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(OLDER_SWEEP, sort_keys=False))
    kept = read_json(root / "sweeps/small/sweep.json")
    ours = read(path).fingerprint()
    assert [name for name in kept["fingerprint"] if kept["fingerprint"][name] != ours.get(name)] == ["command"]
    write_json(root / "sweeps/small/sweep.json", {**kept, "fingerprint": ours})
    before = read_json(root / "sweeps/small/result.json")["trials"]
    assert main(["sweep", str(path), "--resume", f"--artifacts={root}", f"--data={data_root}"]) == 0, capfd.readouterr()
    first, second = read_json(root / "sweeps/small/result.json")["trials"]
    assert [first] == before and (second["values"]["lr"], second["status"]) == (0.01, "finished")
    assert second["run"] in {run.name for run in list_runs(root) if run.summary}
    assert [one for one in examine(root) if one.level == "problem"] == []


@pytest.mark.parametrize("name", PACKED)
def test_the_demo_lists_an_older_store_its_runs_and_how_alike_its_models_look(unpack, name):
    from demo.backend.run_history import RunHistory
    from demo.backend.service import ModelService

    root = unpack(name)
    service, history = ModelService(root), RunHistory(root)
    run_list, catalog = history.run_list(), service.catalog()
    assert {past.name for past in run_list.runs} == {run.name for run in list_runs(root)} and not run_list.broken
    assert all(history.rows(past) for past in run_list.runs)
    assert catalog.broken == () and len(catalog.columns) == len(Store(root).models())
    for shown in catalog.datasets.values():
        first, second = shown.columns.values()
        view = service.explain(first, shown.sample(0), "label", "logit", "gradient")
        assert np.isfinite(view.attribution).all() and view.attribution.any()
        found = service.agreement([first.reference, second.reference], 4)
        assert found.interval("cosine", 0, 1).num == 4


@pytest.mark.slow
def test_every_command_works_on_older_stores(unpack, capsys, data_root):
    model = "digits-test_efficientnet"
    for name in ("trained", "swept"):
        where = [f"--artifacts={unpack(name)}", "--device=cpu"]
        assert main(["evaluate", model, *where, f"--data={data_root}"]) == 0
        assert main(["attribute", f"{model}:v0", "--per_class=1", *where]) == 0
        assert main(["compare", f"{model}:v0", f"{model}:v1", "--num=4", *where]) == 0
        assert main(["report", "--num=10", *where]) == 0
        assert main(["doctor", where[0]]) == 0
        assert main(["prune", where[0]]) == 0
    assert "damaged" not in capsys.readouterr().err


# what a newer cvx will write


def bump(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["format"] == FORMAT, f"{path} has a format from the start"
    path.write_text(json.dumps({**content, "format": FORMAT + 1}), encoding="utf-8")


def test_every_json_file_of_a_newer_cvx_is_named_with_what_to_do(tmp_path):
    root = make_kept_store(tmp_path / "store").root
    names = [path.relative_to(root) for path in sorted(root.rglob("*.json")) if path.parent.name != "args"]
    kinds = {name.name for name in names}
    assert {"card.json", "aliases.json", "config.json", "summary.json", "wandb.json", "sweep.json"} <= kinds
    for name in names:
        copied = shutil.copytree(root, tmp_path / "copied")
        bump(copied / name)
        found = [one for one in examine(copied) if one.level == "problem" and NEWER in one.what]
        assert any(one.where == copied / name or one.where in (copied / name).parents for one in found), name
        shutil.rmtree(copied)


def test_a_newer_state_is_refused_before_anything_is_changed(unpack):
    (run,) = list_runs(unpack("stopped"))
    path = run.folder / "state" / "state.safetensors"
    with safe_open(path, framework="np") as stored:
        content = json.loads(stored.metadata()["json"])
    save_file(load_file(path), path, {"json": json.dumps({**content, "format": FORMAT + 1})})
    layer = torch.nn.Linear(2, 2)
    kept = layer.weight.clone()
    with pytest.raises(ValueError, match=NEWER):
        load_state(path, {"model": layer}, torch.optim.SGD(layer.parameters()))
    assert torch.equal(layer.weight, kept)


def test_a_newer_run_is_one_line_for_whoever_wants_to_go_on_with_it(unpack, capsys, data_root):
    root = unpack("stopped")
    (run,) = list_runs(root)
    bump(run.folder / "config.json")
    assert main(["train", f"--resume={run.name}", f"--artifacts={root}", f"--data={data_root}"]) == 2
    assert NEWER in capsys.readouterr().err
