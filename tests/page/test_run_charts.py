"""What the tab Runs draws: curves, tables, sweeps and groups, and the way to W&B; no browser."""

import json
import re
from urllib.parse import parse_qsl

import numpy as np
import pytest
from small_runs import add_run, data_of
from small_store import bare_tab, make_splits, make_store

from demo.backend.run_history import RunHistory
from demo.components.run_charts import run_charts
from demo.state.tab_link import TabLink
from demo.tabs.runs import RunsTab

# Curves and tables


def test_curves_are_the_recorded_metrics(history, tiles):
    told = data_of(run_charts.page(history, tiles, run_charts.Drawn(metric="val/loss", x="step")))
    for run, curve in zip(tiles, told["curves"], strict=True):
        rows = run.stored.rows()
        assert curve["x"] == [row["step"] for row in rows]
        assert np.allclose(curve["y"], [row["val/loss"] for row in rows], rtol=1e-5)


def test_smoothing_keeps_a_constant_and_starts_at_the_first_value():
    assert np.allclose(run_charts.smooth(np.full(9, 3.0), 0.9), 3)
    values = np.random.default_rng(0).normal(size=50)
    smoothed = run_charts.smooth(values, 0.9)
    assert smoothed[0] == pytest.approx(values[0]) and smoothed.std() < values.std() / 2
    assert run_charts.smooth(values, 0.0) is values


def test_runs_that_differ_in_their_seed_alone_are_averaged(tmp_path):
    store = make_store(tmp_path / "artifacts")
    splits = make_splits("tiles", 40, 16, 3, True)
    for seed in (0, 1):
        folder = store.root / "runs" / add_run(store, splits, "vit_tiny", seed=seed)
        config = json.loads((folder / "config.json").read_text())
        config["config"]["lr"] = 0.5
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "summary.json").write_text(json.dumps({"format": 1, "metrics": {"test/acc1": 0.5 + 0.25 * seed}}))
    history = RunHistory(store.root)
    html = run_charts.page(history, history.run_list().runs, run_charts.Drawn())
    table = re.search(r'aria-label="test accuracy by setting">.*?</table>', html)[0]
    assert "62.5 %" in table and f"{100 * np.std([0.5, 0.75], ddof=1):.2f}" in table and table.count("<tr>") == 2


def test_few_numbers_stand_by_size_and_words_by_name():
    axis = run_charts._axis("lr", [0.005, 0.0015, 0.01, 0.005])
    assert axis["ticktext"] == ["0.0015", "0.005", "0.01"] and axis["values"] == [1, 0, 2, 1]
    assert run_charts._axis("ema", [True, False])["ticktext"] == ["False", "True"]
    assert run_charts._axis("stem", ["timm", None])["ticktext"] == ["", "timm"]


def test_hyperparameters_over_two_decades_lie_on_a_logarithmic_axis():
    axis = run_charts._axis("lr", [1e-4, 1e-1, 1e-2])
    assert np.allclose(axis["values"], [-4, -1, -2]) and axis["ticktext"] == ["0.0001", "0.01", "0.1"]
    words = run_charts._axis("model", ["vit", "cnn", "vit"])
    assert words["values"] == [1, 0, 1] and words["ticktext"] == ["cnn", "vit"]


# Sweeps, groups and W&B


@pytest.fixture
def grouped(tmp_path):
    """Three runs: a trial of a sweep, one of a group, and one alone; two of them are on W&B."""
    store = make_store(tmp_path / "artifacts")
    splits = make_splits("tiles", 40, 16, 3, True)
    folders = [store.root / "runs" / add_run(store, splits, "vit_tiny", seed=seed) for seed in range(3)]
    logs = store.root / "sweeps" / "vit-lr" / "logs"
    logs.mkdir(parents=True)
    (logs / f"{folders[0].name.rpartition('-')[2]}.log").write_text("")
    change(folders[1] / "config.json", place={"group": "by <hand>"})
    there = {"format": 1, "entity": "tester", "project": "maps", "complete": True, "steps": 1, "artifacts": {}}
    write(folders[0] / "wandb.json", {**there, "id": "a1", "url": "https://wandb.example/tester/maps/runs/a1"})
    write(folders[1] / "wandb.json", {**there, "id": "b/2", "url": ""})
    return RunHistory(store.root)


def write(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


def change(path, **more):
    write(path, {**json.loads(path.read_text()), **more})


def test_a_trial_knows_its_sweep_and_a_run_its_group(grouped):
    assert [run.group for run in grouped.run_list().runs] == ["vit-lr", "by <hand>", ""]


def test_runs_on_wandb_have_a_link_and_others_have_none(grouped, monkeypatch):
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    runs = grouped.run_list().runs
    assert [run.url for run in runs] == [
        "https://wandb.example/tester/maps/runs/a1",
        "https://wandb.ai/tester/maps/runs/b%2F2",
        "",
    ]
    html = run_charts.page(grouped, runs, run_charts.Drawn())
    assert re.findall(r'<a href="([^"]*)" target="_blank" rel="noopener noreferrer">', html) == [
        runs[1].url,
        runs[0].url,
    ]
    assert "by &lt;hand&gt;" in html and "by <hand>" not in html


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x"])
def test_a_link_that_is_none_of_the_web_is_not_offered(grouped, url):
    folder = grouped.run_list().runs[0].stored.folder
    change(folder / "wandb.json", url=url)
    assert RunHistory(folder.parents[1]).run_list().runs[0].url == ""


def test_a_damaged_note_of_wandb_hides_no_run(grouped):
    folder = grouped.run_list().runs[0].stored.folder
    (folder / "wandb.json").write_text("{")
    assert RunHistory(folder.parents[1]).run_list().runs[0].url == ""


@pytest.mark.parametrize(
    ("color", "names"),
    [("run", [""] * 3), ("model", ["vit_tiny"] * 3), ("group", ["vit-lr", "by <hand>", "no sweep"])],
)
def test_curves_of_one_color_have_in_common_what_was_asked_for(grouped, color, names):
    told = data_of(run_charts.page(grouped, grouped.run_list().runs, run_charts.Drawn(color=color)))
    assert [curve["group"] for curve in told["curves"]] == names


def test_the_tab_offers_sweeps_where_there_are_any_and_draws_those_that_are_ticked(grouped, history):
    tab = bare_tab(RunsTab, run_history=grouped)
    datasets, models, groups, *rest = tab.fill(TabLink("runs", []))
    assert groups["choices"] == groups["value"] == ["(none)", "by <hand>", "vit-lr"] and groups["visible"]
    assert not bare_tab(RunsTab, run_history=history).fill(TabLink("runs", []))[2]["visible"]
    drawn = [one["value"] if isinstance(one, dict) else one for one in rest]
    for ticked, num in ((["vit-lr"], 1), (["(none)", "by <hand>"], 2), (groups["value"], 3), ([], 0)):
        (html,) = tab.draw(datasets["value"], models["value"], ticked, *drawn)
        assert len(data_of(html)["curves"] if num else []) == num


def test_a_link_of_the_tab_restores_it_and_names_no_sweeps_where_all_are_meant(grouped):
    tab = bare_tab(RunsTab, run_history=grouped)
    said = (["tiles"], ["vit_tiny"], ["vit-lr"], "val/loss", "time", 40, ["y"], "group")
    found = tab.fill(TabLink("runs", parse_qsl(tab.link(*said))))
    assert [one["value"] if isinstance(one, dict) else one for one in found] == list(said)
    everything = ["(none)", "by <hand>", "vit-lr"]
    assert "group=" not in tab.link(*said[:2], everything, *said[3:7], "run")


def test_a_log_axis_smoothing_and_the_metric_reach_the_page(history, tiles):
    drawn = run_charts.Drawn(metric="val/loss", x="time", smoothing=0.5, log_x=True, log_y=True)
    told = data_of(run_charts.page(history, tiles, drawn))
    assert told["drawn"]["log_x"] and told["drawn"]["log_y"] and told["x"] == "seconds"
    for run, curve in zip(tiles, told["curves"], strict=True):
        raw = [row["val/loss"] for row in run.stored.rows()]
        assert np.allclose(curve["raw"], raw, rtol=1e-5)
        assert np.allclose(curve["y"], run_charts.smooth(np.array(raw), 0.5), rtol=1e-5)


def test_parallel_coordinates_have_an_axis_for_every_hyperparameter_that_differs_and_the_result_last(history, tiles):
    axes = data_of(run_charts.page(history, tiles, run_charts.Drawn()))["parallel"]
    assert [axis["label"] for axis in axes] == ["model", "epochs", "lr", "seed", "test accuracy"]
    assert axes[-1]["values"] == [run.metrics["test/acc1"] for run in tiles]
    assert axes[2]["ticktext"] == ["0.05", "0.1"]
