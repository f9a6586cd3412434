"""A run recorded locally is on W&B as if it had been online."""

import json
import shutil

import pytest
from recorded_run import EPOCHS, LOGS, record
from wandb_arrivals import HASTY, WHERE, assert_arrived, media

from cvx.__main__ import main
from cvx.files import read_json, write_json
from cvx.store import Store
from cvx.store.runs import Run
from cvx.tracking import Target, WandbSink, publish, pull
from cvx.tracking.run_link import FILE, read_link

pytestmark = pytest.mark.slow
STEPS = EPOCHS * LOGS + 1


def seen(server, project):
    """Return all that a person sees of a run, without what W&B itself makes up."""
    run, history = server.run(project, "run-a"), server.history(project, "run-a")
    pictures = {
        (row["_step"], key): [server.state.storage[run.files[name]] for name in media(value)]
        for row in history
        for key, value in row.items()
        if media(value)
    }
    plain = [{k: v for k, v in row.items() if k not in ("_runtime",) and not isinstance(v, dict)} for row in history]
    captions = [row["film"]["captions"] for row in history if "film" in row]
    config = {key: value for key, value in json.loads(run.fields["config"]).items() if key != "_wandb"}
    summary = json.loads(run.fields["summaryMetrics"])
    numbers = {key: value for key, value in summary.items() if not key.startswith("_") and not isinstance(value, dict)}
    return (
        json.dumps(plain, sort_keys=True),
        pictures.keys(),
        without_artifact_links(pictures),
        captions,
        config,
        numbers,
        run.tags,
        run.state,
    )


def without_artifact_links(pictures):
    """Tables name their pictures by the digest of their content: those are alike; W&B's own ids are left out."""
    return {
        place: [content for content in contents if content[:4] == b"\x89PNG"] for place, contents in pictures.items()
    }


def artifacts(server, project):
    found = server.state.project(None, project).collections
    return {
        (kind, name): [(one.digest, sorted(one.aliases), one.metadata) for one in collection.committed]
        for (kind, name), collection in found.items()
        if kind not in ("run_table", "code")  # of cvx itself, sent where it is what the run was made with
    }


def test_published_and_streamed_runs_look_alike_and_publishing_again_sends_nothing(wandb_server, tmp_path):
    sink = WandbSink(Target("", "online"), HASTY, lambda line: None)
    folder = record(tmp_path / "a", sinks=[sink])
    sink.close()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    copy = tmp_path / "b" / "runs" / folder.name
    (copy / FILE).unlink()
    published = publish(copy, Target("", "later"), HASTY)
    assert (published.sent, published.steps, published.recorded, published.missing) == (STEPS, STEPS, STEPS, "")
    assert_arrived(wandb_server, copy, "later")
    assert seen(wandb_server, "later") == seen(wandb_server, "online")
    assert artifacts(wandb_server, "later") == artifacts(wandb_server, "online")
    uploads = len(wandb_server.state.uploads)
    again = publish(copy, Target("", "later"), HASTY)
    assert (again.sent, again.steps, again.missing) == (0, STEPS, "")
    assert len(wandb_server.state.uploads) == uploads and len(wandb_server.history("later", "run-a")) == STEPS


def test_an_unfinished_run_is_published_as_far_as_it_goes_and_later_completed(wandb_server, tmp_path):
    folder = record(tmp_path / "a", stop=6)
    assert publish(folder, WHERE, HASTY).steps == 7
    assert not read_link(folder).complete and wandb_server.run("maps", "run-a").state == "failed"
    link = (folder / FILE).read_text()
    shutil.rmtree(tmp_path / "a")
    folder = record(tmp_path / "a")
    (folder / FILE).write_text(link)
    done = publish(folder, WHERE, HASTY)
    assert (done.sent, done.missing) == (STEPS - 7, "")
    assert_arrived(wandb_server, folder)
    assert read_link(folder).complete


def test_pictures_that_were_lost_on_the_way_are_drawn_and_sent_again(wandb_server, tmp_path):
    folder = record(tmp_path / "a")
    publish(folder, WHERE, HASTY)
    run = wandb_server.run("maps", "run-a")
    lost = sorted(name for name in run.files if name.startswith("media/images/film"))[:3]
    before = {name: wandb_server.state.storage.pop(run.files.pop(name)) for name in lost}
    assert publish(folder, WHERE, HASTY).missing == ""
    assert {name: wandb_server.state.storage[run.files[name]] for name in lost} == before
    assert len(wandb_server.history("maps", "run-a")) == STEPS


def test_a_run_lies_in_one_project(wandb_server, tmp_path):
    folder = record(tmp_path / "a")
    publish(folder, WHERE, HASTY)
    with pytest.raises(
        ValueError, match=r"already on W&B as tester/maps/run-a, not in elsewhere; give --project=tester/maps"
    ):
        publish(folder, Target("", "elsewhere"), HASTY)


def test_a_run_that_is_being_trained_is_left_alone(wandb_server, tmp_path):
    from filelock import FileLock

    folder = record(tmp_path / "a")
    with FileLock(folder / ".lock"), pytest.raises(ValueError, match="is being trained now"):
        publish(folder, WHERE, HASTY)


def test_the_command_says_what_was_sent(wandb_server, tmp_path, capsys):
    record(tmp_path / "a")
    assert main(["publish", "--project=maps", f"--artifacts={tmp_path / 'a'}"]) == 0
    said = capsys.readouterr().out
    assert f"{STEPS} of {STEPS}" in said and f"{wandb_server.url}/tester/maps/runs/run-a" in said


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    folder = record(tmp_path / "a")
    assert main(["publish", "run-x", f"--artifacts={tmp_path / 'a'}"]) == 2
    assert "no run 'run-x'" in capsys.readouterr().err
    assert main(["publish", f"--artifacts={tmp_path / 'a'}"]) == 2
    assert "wandb login" in capsys.readouterr().err
    assert main(["publish", f"--artifacts={tmp_path / 'none'}"]) == 2
    assert "holds no run yet" in capsys.readouterr().err
    assert not (folder / FILE).exists()


def test_a_run_that_was_deleted_on_wandb_is_published_anew_under_another_id(wandb_server, tmp_path):
    folder = record(tmp_path / "a")
    publish(folder, WHERE, HASTY)
    for id in ("run-a", "run-a-again2"):
        wandb_server.delete_run("maps", id)
        done = publish(folder, WHERE, HASTY)
        assert (done.sent, done.steps, done.missing) == (STEPS, STEPS, "")
    run = wandb_server.run("maps", "run-a-again3")
    assert run.fields["displayName"] == "run-a" and read_link(folder).id == "run-a-again3"
    models = wandb_server.state.project(None, "maps").collections["model", "tiles-test_resnet"]
    assert models.find("best").created_by is run
    assert len(wandb_server.history("maps", run.name)) == STEPS


def test_names_that_wandb_does_not_take_come_back_as_they_were(wandb_server, tmp_path):
    long = "20260102-030405-folder-" + "many-birds-" * 12 + "resnet50-ab12"
    folder = record(tmp_path / "there", name=long, tags=["t" * 80])
    store = Store(tmp_path / "there")
    name = "folder-" + "many-birds-" * 12 + "resnet50"
    (store.root / "models" / "tiles-test_resnet").rename(store.root / "models" / name)
    for card in (store.root / "models").rglob("card.json"):
        write_json(card, {**read_json(card), "name": name})
    summary = read_json(folder / "summary.json")
    write_json(folder / "summary.json", {**summary, "best": f"{name}:v0", "last": f"{name}:v1"})
    assert publish(folder, WHERE, HASTY).missing == ""
    project = wandb_server.state.project(None, "maps")
    sent = [name for kind, name in project.collections if kind in ("dataset", "model", "records")]
    assert all(len(name) <= 128 for _, name in project.collections) and len(set(sent)) == 3
    assert {(one.kind, one.status) for one in pull(tmp_path / "here", WHERE)} == {
        (kind, "new") for kind in ("dataset", "model", "records")
    }
    here = Store(tmp_path / "here")
    assert here.resolve(name).card.run == long and Run(here.root / "runs" / long).summary is not None
    assert {one.status for one in pull(tmp_path / "here", WHERE)} == {"known"}
