"""What looks at a model is a run on W&B that uses the model's artifact, and keeps working where W&B does not."""

import json
import re

import pytest
from recorded_run import record
from small_store import ROOT, add_model, make_splits
from wandb_arrivals import HASTY, WHERE, media

from cvx.__main__ import main
from cvx.files import read_json, write_json
from cvx.store import Store
from cvx.store.provenance import provenance
from cvx.tracking import log_command, publish, pull
from cvx.tracking.account import DEFAULT_TIMEOUTS
from cvx.tracking.artifacts import artifact_of

NAME = "tiles-test_resnet"


def runs_of(server, kind, project="maps"):
    found = server.state.project(None, project)
    return [run for run in (found.runs.values() if found else ()) if run.fields.get("jobType") == kind]


def used(server, run, project="maps"):
    """Return the models that a run uses, by name, version and who made them."""
    found = server.state.project(None, project).collections
    return [
        (name, one.index, one.created_by.name if one.created_by else None)
        for (kind, name), collection in found.items()
        for one in collection.committed
        if kind == "model" and run in one.used_by
    ]


def row(server, run):
    (line,) = server.history("maps", run.name)
    return line


@pytest.mark.slow
def test_maps_are_a_run_that_uses_the_models_artifact_wherever_the_model_lies(wandb_server, tmp_path, capsys):
    folder = record(tmp_path / "there")
    publish(folder, WHERE, DEFAULT_TIMEOUTS)
    pull(tmp_path / "here", WHERE)
    assert runs_of(wandb_server, "demo") == [], "to fetch files is to use none of them"
    names = [artifact_of(Store(tmp_path / root), Store(tmp_path / root).resolve(NAME)) for root in ("there", "here")]
    assert names == [f"tester/maps/{NAME}:v0"] * 2
    for root in ("there", "here"):
        flags = ["--project=maps", "--num=8", "--per_class=1", "--device=cpu", f"--artifacts={tmp_path / root}"]
        assert main(["attribute", NAME, *flags]) == 0
        assert "W&B: attribute is at http" in capsys.readouterr().err
    first, second = runs_of(wandb_server, "attribute")
    assert used(wandb_server, first) == used(wandb_server, second) == [(NAME, 0, "run-a")]
    assert first.state == "finished"
    line = row(wandb_server, second)
    pictures = line[f"attribute/maps/{NAME}"]
    assert [text.split(":")[-1] for text in pictures["captions"]] == [
        f" {name}, 2 images" for name in ("red", "green", "blue", "gray")
    ]
    assert all(second.files[name] in wandb_server.state.storage for name in media(pictures))
    table = json.loads(wandb_server.state.storage[second.files[line["attribute/classes"]["path"]]])
    assert [cells[:3] for cells in table["data"]] == [
        [f"{NAME}:v0", name, 2] for name in ("red", "green", "blue", "gray")
    ]
    asked = json.loads(second.fields["config"])["attribute"]["value"]
    assert (asked["targets"], asked["score"], asked["models"]) == ("label", "logit", [f"{NAME}:v0"])


@pytest.mark.slow
def test_numbers_are_a_run_that_uses_the_model_that_training_sent(wandb_server, tmp_path, capsys):
    where = [f"--artifacts={tmp_path / 'store'}", "--device=cpu", "--project=maps"]
    short = ["--dataset=digits", "--model=test_resnet", "--epochs=1", "--warmup_epochs=0", "--save=best"]
    assert main(["train", *short, *where]) == 0
    (trained,) = runs_of(wandb_server, "train")
    assert main(["evaluate", "digits-test_resnet", *where]) == 0
    assert "W&B: evaluate is at http" in capsys.readouterr().err
    (run,) = runs_of(wandb_server, "evaluate")
    assert used(wandb_server, run) == [("digits-test_resnet", 0, trained.name)]
    line, card = row(wandb_server, run), Store(tmp_path / "store").resolve("digits-test_resnet").card
    assert line["evaluate/test/acc1"] == pytest.approx(card.metrics["test/acc1"])
    table = json.loads(wandb_server.state.storage[run.files[line["evaluate/test/per_class"]["path"]]])
    assert [name for name, _ in table["data"]] == list(card.classes)
    check_page(wandb_server, trained)
    check_code(wandb_server, trained)
    check_documented(wandb_server, trained, run)


def check_page(server, run):
    """The run's own page is there, whole and needing nothing."""
    line = server.history("maps", run.name)[-1]
    assert line["report"]["_type"] == "html-file"
    page = server.state.storage[run.files[line["report"]["path"]]].decode()
    assert page.startswith("<!doctype html>") and run.name in page and 'src="http' not in page


def check_code(server, run):
    (version,) = server.state.project(None, "maps").collections["code", "cvx-source"].committed
    assert version.created_by is run
    assert {"training/loop.py", "tracking/upload.py", "report/templates/page.html"} <= set(version.contents)
    assert not [name for name in version.contents if not name.endswith((".py", ".html", ".css", ".js"))]
    facts = json.loads(server.state.storage[run.files["wandb-metadata.json"]])
    assert facts.get("git", {}).get("commit", "") == provenance()["git_commit"].removesuffix("-dirty")


def check_documented(server, trained, evaluated):
    """Every key that the tables of docs/wandb.md name is logged, and every key that is logged stands in them."""
    text = (ROOT / "docs" / "wandb.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    promised = [
        key for line in lines for key in re.findall(r"`([^`]+)`", line.split(" | ")[0]) if "artifact" not in line
    ]
    told = {key for line in lines for key in re.findall(r"`([^`]+)`", line)}
    keys = {key for one in (trained, evaluated) for line in server.history("maps", one.name) for key in line}
    charts = json.loads(trained.fields["config"])["_wandb"]["value"]["visualize"]
    found = keys | set(json.loads(trained.fields["summaryMetrics"])) | set(charts)
    elsewhere = {"attribute/maps/<model>", "attribute/classes"}
    assert [key for key in promised if key not in elsewhere and not any(fits(key, one) for one in found)] == []
    unsaid = [one for one in keys if not one.startswith("_") and not any(fits(key, one) for key in told)]
    assert unsaid == []


def fits(written, key):
    """Tell whether a key is what the page writes, `<any>` standing for one part of it."""
    return re.fullmatch("[^/]+".join(re.escape(part) for part in re.split(r"<[^>]+>", written)), key)


@pytest.mark.slow
def test_an_imported_model_is_sent_by_what_looks_at_it_and_others_are_named(wandb_server, tmp_path, capsys):
    store, splits = Store(tmp_path), make_splits("tiles", 8, 16, 3, True)
    add_model(store, splits, "test_resnet")
    add_model(store, splits, "test_vit")
    card = store.resolve("tiles-test_vit").folder / "card.json"
    write_json(card, {**read_json(card), "role": "imported", "run": ""})
    for _ in range(2):
        with log_command("compare", "auto", "maps", store, HASTY) as findings:
            findings.models = store.models()
    assert "not linked to tiles-test_resnet:v0, which W&B has not got" in capsys.readouterr().err
    first, second = runs_of(wandb_server, "compare")
    (brought,) = wandb_server.state.project(None, "maps").collections["model", "tiles-test_vit"].committed
    assert brought.used_by == [first, second] and set(brought.aliases) == {"best", "latest"}


@pytest.mark.slow
def test_the_demo_is_a_run_that_uses_each_model_once(wandb_server, tmp_path, monkeypatch):
    publish(record(tmp_path / "there"), WHERE, HASTY)
    with monkeypatch.context() as offline:
        offline.setenv("WANDB_MODE", "offline")
        pull(tmp_path / "here", WHERE, used_by="demo")
    assert runs_of(wandb_server, "demo") == []
    for _ in range(2):
        pull(tmp_path / "here", WHERE, used_by="demo")
    (run,) = runs_of(wandb_server, "demo")
    assert used(wandb_server, run) == [(NAME, 0, "run-a")] and run.state == "finished"
    publish(record(tmp_path / "there", name="run-b", acc1=0.9, last=False), WHERE, HASTY)
    pull(tmp_path / "here", WHERE, used_by="demo")
    assert used(wandb_server, runs_of(wandb_server, "demo")[1]) == [(NAME, 2, "run-b")]


@pytest.mark.slow
def test_models_come_where_w_and_b_takes_no_note_of_their_use(wandb_server, tmp_path, capsys):
    publish(record(tmp_path / "there"), WHERE, HASTY)
    wandb_server.fail(403, pattern="UpsertBucket")
    assert [one.status for one in pull(tmp_path / "here", WHERE, used_by="demo")] == ["new"] * 3
    assert capsys.readouterr().err.startswith("W&B: not told that the demo uses these models")


def test_with_no_account_nothing_changes(tmp_path, capsys):
    store, splits = Store(tmp_path), make_splits("tiles", 8, 16, 3, True)
    entry = add_model(store, splits, "test_resnet")
    with log_command("evaluate", "auto", "", store) as findings:
        findings.models = [entry or store.models()[0]]
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ValueError, match="wandb login"), log_command("evaluate", "on", "", store):
        pass
    with pytest.raises(ValueError, match=r"\[ENTITY/\]PROJECT"), log_command("evaluate", "off", "a b", store):
        pass


@pytest.mark.slow
def test_a_model_that_was_deleted_on_wandb_is_named_and_the_numbers_are_there(
    wandb_server, tmp_path, capsys, monkeypatch
):
    publish(record(tmp_path), WHERE, HASTY)
    wandb_server.delete_run("maps", "run-a")
    store = Store(tmp_path)
    monkeypatch.setenv("WANDB_RUN_ID", "of-a-training-run")
    with log_command("evaluate", "auto", "maps", store, HASTY) as findings:
        findings.models, findings.numbers = [store.resolve(NAME)], {"test/acc1": 0.5}
    assert f"not linked to {NAME}:v0, which W&B has not got" in capsys.readouterr().err
    (run,) = runs_of(wandb_server, "evaluate")
    assert row(wandb_server, run)["evaluate/test/acc1"] == 0.5
    assert run.name != "of-a-training-run" and run.fields["displayName"] == f"evaluate {NAME}:v0"


@pytest.mark.slow
def test_a_command_has_done_its_work_before_w_and_b_is_asked(wandb_server, tmp_path, capsys):
    record(tmp_path)
    wandb_server.fail("down")
    store = Store(tmp_path)
    with log_command("evaluate", "auto", "maps", store, HASTY) as findings:
        findings.models = [store.resolve(NAME)]
        print("found")
    said = capsys.readouterr()
    assert said.out == "found\n" and said.err.startswith("W&B: W&B cannot be reached") and said.err.count("\n") == 1


def test_one_rank_speaks_for_all(wandb_server, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    record(tmp_path)
    with log_command("evaluate", "on", "maps", Store(tmp_path)) as findings:
        findings.models = [Store(tmp_path).resolve(NAME)]
    assert runs_of(wandb_server, "evaluate") == []
