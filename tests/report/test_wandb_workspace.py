"""The same sections on W&B: saved once, updated after, and naming only what runs log."""

import dataclasses
import json

import pytest
from recorded_run import record

from cvx.__main__ import main
from cvx.comparison.map_convergence import FRAME_NUMBERS, MASK_NUMBERS
from cvx.config import TrainConfig
from cvx.files import read_json
from cvx.report import fill, read_store, run_page, wandb_workspace
from cvx.report.outline import PARAMETERS, SECTIONS
from cvx.report.wandb_panels import metric_keys
from cvx.store import Store
from cvx.store.runs import Run
from cvx.tracking import Target, Timeouts, WandbSink

HASTY = Timeouts(connect=5, finish=3, appear=3)
NOT_RECORDED = {"lr", "time/images_per_s", "val/ece", *FRAME_NUMBERS, *MASK_NUMBERS}
"""What training logs and the recorded run of these tests does not."""
TWO = ["tiles-test_resnet:v0", "tiles-test_resnet:v1"]


def views(server):
    """Return the saved views by type."""
    return {view.fields["type"]: view for project in server.state.projects.values() for view in project.views.values()}


def every(value, key):
    """Collect what stands under a key, anywhere in a spec."""
    if isinstance(value, list):
        return [one for part in value for one in every(part, key)]
    if not isinstance(value, dict):
        return []
    return ([value[key]] if key in value else []) + [one for part in value.values() for one in every(part, key)]


def logged(server, name):
    """Return the names that the run logged: rows, media and summary."""
    rows = server.history("maps", name)
    return {key for row in rows for key in row} | set(json.loads(server.run("maps", name).fields["summaryMetrics"]))


@pytest.mark.slow
def test_workspace_and_report_are_saved_updated_and_name_only_what_runs_log(wandb_server, tmp_path, capsys):
    store = Store(tmp_path / "store")
    folder = stream(store)
    few = ["--num_often=2", "--device=cpu", "--project=maps", f"--artifacts={store.root}"]
    assert main(["compare", *TWO, "--measures=all", "--num=4", *few]) == 0
    first = wandb_workspace.save(store.root, fill.fill(read_store.read(store, num=8, num_often=2)), "maps")
    capsys.readouterr()
    assert main(["report", "--title=Another title", "--num=8", *few]) == 0
    again = dict(line.split(": ") for line in capsys.readouterr().out.splitlines()[1:])
    assert sorted(again) == ["report", "workspace"]
    check_addresses(wandb_server, store, first, again)
    specs = {kind: json.loads(view.fields["spec"]) for kind, view in views(wandb_server).items()}
    check_sections(specs)
    every_run = [run for project in wandb_server.state.projects.values() for run in project.runs.values()]
    (compared,) = [run for run in every_run if run.fields["jobType"] == "compare"]
    check_names(specs, logged(wandb_server, folder.name) | logged(wandb_server, compared.name) | NOT_RECORDED)
    check_hyperparameters(specs)
    check_run_sets(specs["runs"])


def stream(store):
    """Record a run while a sink streams it, its own page included; return its folder."""
    sink = WandbSink(Target("", "maps"), HASTY, lambda line: None, lambda folder: run_page(store, Run(folder)))
    folder = record(store.root, sinks=[sink])
    sink.close()
    return folder


@pytest.mark.slow
def test_an_empty_store_reports_the_runs_that_the_project_has(wandb_server, tmp_path, capsys):
    stream(Store(tmp_path / "elsewhere"))
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        assert main(["report", "--project=maps", f"--artifacts={tmp_path / 'empty'}"]) == 0
    said = capsys.readouterr()
    assert said.err.count("is empty: no page is written") == 2
    assert [line.split(": ")[0] for line in said.out.splitlines()] == ["report", "workspace"] * 2
    assert sum(len(project.views) for project in wandb_server.state.projects.values()) == 2
    specs = {kind: json.loads(view.fields["spec"]) for kind, view in views(wandb_server).items()}
    check_sections(specs)
    check_run_sets(specs["runs"])
    assert [path.name for path in (tmp_path / "empty").rglob("*")] == ["reports", "report.json"]


def check_addresses(server, store, first, again):
    """A second call updates both, and their addresses are kept."""
    assert sorted(views(server)) == ["project-view", "runs"]
    assert sum(len(project.views) for project in server.state.projects.values()) == 2
    assert {view.fields["displayName"] for view in views(server).values()} == {"Another title"}
    kept = read_json(store.root / "reports" / "report.json")
    assert {kind: kept[kind] for kind in again} == again and first["workspace"] == again["workspace"]
    ids = [address.rpartition("--")[2] for address in (first["report"], again["report"])]
    assert ids[0] == ids[1] and all(address.startswith(server.url) for address in again.values())


def check_sections(specs):
    """Both hold all sections, in the list's order, with the numbers of this store."""
    titles = [section.title for section in SECTIONS]
    bank = specs["project-view"]["section"]["panelBankConfig"]["sections"]
    assert [one["name"] for one in bank if one["name"] in titles] == titles
    headings = [one for one in specs["runs"]["blocks"] if one.get("type") == "heading" and one["level"] == 1]
    assert [one["children"][0]["text"] for one in headings] == titles
    for spec in specs.values():
        assert "75.00 %" in json.dumps(spec, ensure_ascii=False)  # the recorded run's test accuracy


def check_names(specs, known):
    """A name that no run logs would be an empty panel that nobody notices."""
    for spec in specs.values():
        lines, axes = every(spec, "metrics"), every(spec, "xAxis")
        names = {name for names in lines for name in names} | {
            name for names in every(spec, "mediaKeys") for name in names
        }
        names |= {name for name in axes if name not in ("_step", "index") and not name.startswith("config:")}
        names |= set(every(spec, "targetKey"))
        assert {"val/acc1", "test/acc1", "film", "embedding/umap", "epoch"} <= names <= known
    assert {key for section in SECTIONS for panel in section.panels for key in metric_keys(panel)} <= known


def check_hyperparameters(specs):
    """Hyperparameters are config, not metrics of the same name."""
    for spec in specs.values():
        accessors = {one for one in every(spec, "accessor") if isinstance(one, str)}
        assert accessors == {"summary:val/acc1", *(f"config:{name}.value" for name in PARAMETERS)}
        assert "config:lr.value" in every(spec, "xAxis")


def check_run_sets(spec):
    """Each takes one dataset, grouped by it and by model where a model's runs are drawn as one, or all comparisons."""
    sets = [one for sets in every(spec, "runSets") if isinstance(sets, list) for one in sets]
    assert sets
    keys = [{"section": "config", "name": f"{name}.value"} for name in ("dataset", "model")]
    of_runs = [one for one in sets if one["name"] == "tiles"]
    assert {rule(one) for one in of_runs} == {("config", "dataset", "=", "tiles")}
    assert {json.dumps(one["grouping"]) for one in of_runs} == {"[]", json.dumps(keys)}
    others = [one for one in sets if one["name"] != "tiles"]
    assert {rule(one) for one in others} == {("run", "jobType", "=", "compare")}


def rule(runset):
    """Return the one filter of a run set."""
    (only,) = runset["filters"]["filters"]
    return only["key"]["section"], only["key"]["name"], only["op"], only["value"]


def test_what_panels_vary_are_fields_of_the_config():
    assert set(PARAMETERS) <= {field.name for field in dataclasses.fields(TrainConfig)}


def test_without_an_account_it_says_how_to_get_in(tmp_path):
    with pytest.raises(OSError, match="wandb login"):
        wandb_workspace.save(tmp_path, fill.EMPTY, "maps")


def test_a_project_without_runs_says_how_to_send_some(wandb_server, tmp_path):
    with pytest.raises(ValueError, match=r"cvx publish --project=\S+/maps"):
        wandb_workspace.save(tmp_path, fill.EMPTY, "maps")
