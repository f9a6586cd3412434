"""W&B's artifacts come back into a store: checked, only what is new, and never outside of their folders."""

import gc
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded_run import record
from wandb_arrivals import HASTY, WHERE

from cvx.__main__ import main
from cvx.store import Store
from cvx.store.runs import Run
from cvx.tracking import Target, publish, pull

pytestmark = pytest.mark.slow


@pytest.fixture
def published(wandb_server, tmp_path):
    folder = record(tmp_path / "there")
    publish(folder, WHERE, HASTY)
    return wandb_server, folder


def statuses(pulled):
    return [(one.kind, one.status) for one in pulled]


def version(server, kind, name, project="maps"):
    return server.state.project(None, project).collections[kind, name].committed[0]


def test_an_empty_store_gets_the_best_models_with_samples_and_records(published, tmp_path):
    heard = []
    pulled = pull(tmp_path / "here", WHERE, progress=lambda *news: heard.append(news))
    assert statuses(pulled) == [("dataset", "new"), ("model", "new"), ("records", "new")]
    assert [(done, total) for done, total, _ in heard] == [(1, 3), (2, 3), (3, 3)]
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    ours, card = here.resolve("tiles-test_resnet:best").load()
    theirs, _ = there.resolve("tiles-test_resnet:best").load()
    inputs = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(inputs), theirs(inputs), rtol=0, atol=0)
    assert card.origin == "tester/maps/tiles-test_resnet:v0"
    np.testing.assert_array_equal(here.samples("tiles").split.images, there.samples("tiles").split.images)
    assert here.samples("tiles").split.masks is not None
    assert not (tmp_path / "here" / ".pulling").exists()


def test_records_come_with_the_models_of_their_run(wandb_server, tmp_path):
    folder = record(tmp_path / "there", name="run-0")
    publish(folder, WHERE, HASTY)
    assert ("records", "new") in statuses(pull(tmp_path / "here", WHERE))
    pulled = Run(tmp_path / "here" / "runs" / "run-0")
    assert pulled.rows() == Run(folder).rows() and pulled.summary == Run(folder).summary
    assert pulled.frames("film").keys() == Run(folder).frames("film").keys()
    assert statuses(pull(tmp_path / "here", WHERE)) == [("dataset", "known"), ("model", "known"), ("records", "known")]


def test_a_second_pull_fetches_only_what_is_new(published, tmp_path):
    server, _ = published
    pull(tmp_path / "here", WHERE)
    fetched = len([one for one in server.requests if one.startswith("GET /storage/artifacts")])
    assert statuses(pull(tmp_path / "here", WHERE)) == [("dataset", "known"), ("model", "known"), ("records", "known")]
    assert len([one for one in server.requests if one.startswith("GET /storage/artifacts")]) == fetched
    assert [one.status for one in pull(tmp_path / "here", WHERE, alias="all")] == ["known", "known", "new", "known"]
    assert [entry.version for entry in Store(tmp_path / "here").models()] == [0, 1]


def test_pulling_into_the_store_it_came_from_changes_nothing(published, tmp_path):
    before = [(entry.reference, entry.aliases) for entry in Store(tmp_path / "there").models()]
    assert {one.status for one in pull(tmp_path / "there", WHERE, alias="all")} == {"known"}
    assert [(entry.reference, entry.aliases) for entry in Store(tmp_path / "there").models()] == before


def test_models_of_two_sources_do_not_share_a_name_on_wandb_either(wandb_server, tmp_path):
    roots = [tmp_path / "one", tmp_path / "two"]
    for root, source, acc1 in zip(roots, ("aaaaaa11", "bbbbbb22"), (0.9, 0.2), strict=True):
        publish(record(root, name=f"run-{root.name}", acc1=acc1, source=source), WHERE, HASTY)
        assert Store(root).models()[0].name == "tiles-test_resnet"  # alone in its store, it has the short name
    found = wandb_server.state.project(None, "maps").collections
    names = {name for kind, name in found if kind == "model"}
    assert names == {"tiles-test_resnet", "tiles-test_resnet-bbbbbb"}
    best = {
        n: [json.loads(one.metadata)["source"] for one in found["model", n].committed if "best" in one.aliases]
        for n in names
    }
    assert best == {"tiles-test_resnet": ["aaaaaa11"], "tiles-test_resnet-bbbbbb": ["bbbbbb22"]}
    for root in roots:  # each already has what it published, under the name that it has there
        assert {one.status for one in pull(root, WHERE) if one.name.endswith(f"{root.name}:v0")} <= {"known"}
        assert len(Store(root).best()) == 2
    again = pull(tmp_path / "one", WHERE)
    assert {one.status for one in again} == {"known"}


def test_two_projects_share_a_store_without_colliding(published, tmp_path):
    folder = record(tmp_path / "other", name="run-z", acc1=0.9)
    publish(folder, Target("", "others"), HASTY)
    pull(tmp_path / "here", WHERE)
    pull(tmp_path / "here", Target("", "others"))
    entries = Store(tmp_path / "here").versions("tiles-test_resnet")
    assert [entry.card.origin for entry in entries] == [
        f"tester/{one}/tiles-test_resnet:v0" for one in ("maps", "others")
    ]
    assert "best" in entries[1].aliases, "the better of the two"


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # wandb leaves its sessions to the collector
def test_two_pulls_at_once_into_one_store_bring_every_artifact_once(published, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: statuses(pull(tmp_path / "here", WHERE)), range(2)))
    kinds = ("dataset", "model", "records")
    assert sorted(both) == [[(kind, status) for kind in kinds] for status in ("known", "new")]
    assert [entry.version for entry in Store(tmp_path / "here").models()] == [0]
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # wandb leaves its sessions to the collector
def test_an_interrupted_pull_keeps_what_came_and_fetches_only_the_rest(published, tmp_path):
    server, _ = published
    server.fail(404, pattern=f"GET .*({digest(server, 'model.safetensors')}|model.safetensors)")
    first = pull(tmp_path / "here", WHERE)
    assert statuses(first) == [("dataset", "new"), ("model", "refused"), ("records", "new")]
    server.heal()
    before = len(server.requests)
    assert statuses(pull(tmp_path / "here", WHERE)) == [("dataset", "known"), ("model", "new"), ("records", "known")]
    fetched = [one for one in server.requests[before:] if one.startswith("GET /storage/artifacts")]
    assert len(fetched) <= 2
    assert Store(tmp_path / "here").resolve("tiles-test_resnet").load()
    gc.collect()


def digest(server, file):
    return version(server, "model", "tiles-test_resnet").contents[file]["digest"].encode().hex()


def test_a_pull_killed_as_it_puts_records_in_their_place_is_completed_by_the_next(published, tmp_path, monkeypatch):
    here, rename = tmp_path / "here", Path.rename

    def killed(path, target):
        if target.parent.name == "runs":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", killed)
        pull(here, WHERE)
    assert list((here / ".pulling").rglob("wandb.json"))
    assert statuses(pull(here, WHERE)) == [("dataset", "known"), ("model", "known"), ("records", "new")]


def test_weights_that_are_not_what_their_digest_says_are_refused(published, tmp_path):
    server, _ = published
    path = f"artifacts/{digest(server, 'model.safetensors')}"
    content = server.state.storage[path]
    server.state.storage[path] = content[:-1] + bytes([content[-1] ^ 1])
    assert statuses(pull(tmp_path / "here", WHERE)) == [("dataset", "new"), ("model", "refused"), ("records", "new")]
    assert Store(tmp_path / "here").models() == []


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:evil.txt", "run.py"]
)
def test_a_name_that_would_leave_its_folder_is_refused_before_anything_is_fetched(published, tmp_path, name):
    server, _ = published
    one = version(server, "model", "tiles-test_resnet")
    manifest = json.loads(server.state.storage[one.manifest_path])
    manifest["contents"][name] = manifest["contents"]["card.json"]
    server.state.storage[one.manifest_path] = json.dumps(manifest).encode()
    one.manifest = manifest
    pulled = pull(tmp_path / "here", WHERE)
    assert statuses(pulled)[1] == ("model", "refused") and name.split("\\")[-1] in pulled[1].error
    assert Store(tmp_path / "here").models() == []
    assert not list(tmp_path.rglob("*evil*"))


def test_a_project_that_is_not_there_or_has_no_such_alias_is_said_so(published, tmp_path):
    with pytest.raises(ValueError, match="no project tester/nothing"):
        pull(tmp_path / "here", Target("", "nothing"))
    with pytest.raises(ValueError, match="no model with the alias 'v9'"):
        pull(tmp_path / "here", WHERE, alias="v9")


def test_the_command_tells_what_came_and_is_one_line_where_wandb_is_not(published, tmp_path, monkeypatch, capsys):
    assert main(["pull", "tester/maps", f"--artifacts={tmp_path / 'here'}"]) == 0
    assert "3 new, 0 known, 0 refused" in capsys.readouterr().out
    monkeypatch.delenv("WANDB_API_KEY")
    import wandb

    wandb.teardown()
    assert main(["pull", "tester/maps", f"--artifacts={tmp_path / 'here'}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
