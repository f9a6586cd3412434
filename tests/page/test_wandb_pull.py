"""The demo fetches a project's models from W&B while it serves what is there, and says calmly when it cannot."""

import json
import time

import pytest
from gradio_client import Client
from playwright.sync_api import expect
from recorded_run import record
from small_store import make_store, served
from wandb_arrivals import HASTY, WHERE

from cvx.tracking import publish
from demo.jobs.wandb_pull import PullJob, status_html


def ended(job):
    """Start a pull and wait for its end."""
    job.start()
    deadline = time.monotonic() + 60
    while job.running:
        assert time.monotonic() < deadline, "the pull does not end"
        time.sleep(0.05)
    return status_html(job)


def test_a_project_that_cannot_be_one_is_said_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"a project is \[ENTITY/\]PROJECT"):
        PullJob(tmp_path, "my maps")


def test_without_an_account_the_page_says_what_to_do_and_nothing_breaks(tmp_path):
    words = ended(PullJob(tmp_path / "artifacts", "tester/<maps>"))
    assert "Nothing new from W&amp;B: tester/&lt;maps&gt;" in words
    assert "Not logged in to W&amp;B: run `wandb login` or set WANDB_API_KEY." in words
    assert "The page shows what the store holds" in words and "cvx-error" not in words


def test_what_wandb_says_is_told_in_words_of_our_own_and_its_own_stand_behind_them(tmp_path):
    job = PullJob(tmp_path, "maps")
    job.trouble = "W&B does not answer: HTTPSConnectionPool(<host>): Max retries; what was pulled before is kept"
    words = status_html(job)
    shown, _, behind = words.partition("<details>")
    assert "W&amp;B does not answer. Is there a network?" in shown and "HTTPSConnectionPool" not in shown
    assert "HTTPSConnectionPool(&lt;host&gt;)" in behind


@pytest.mark.slow
def test_each_artifact_is_heard_of_and_a_second_pull_finds_all_of_it_here(wandb_server, tmp_path):
    publish(record(tmp_path / "there"), WHERE, HASTY)
    job = PullJob(tmp_path / "here", "maps")
    assert "From W&amp;B, maps: 3 new, 0 already here" in ended(job)
    assert (job.done, job.total) == (3, 3)
    assert "From W&amp;B, maps: 0 new, 3 already here" in ended(job)
    nothing = ended(PullJob(tmp_path / "there is none", "maps", "v7"))
    assert "Nothing new from W&amp;B: maps" in nothing and "no model with the alias &#x27;v7&#x27;" in nothing
    assert "3 new" in ended(PullJob(tmp_path / "of a version", "maps", "v0"))
    add_unknown_file(wandb_server)
    words = ended(PullJob(tmp_path / "elsewhere", "maps"))
    assert "2 new, 0 already here, 1 refused" in words and "&#x27;run.py&#x27;, which cvx does not write" in words


def add_unknown_file(server):
    one = server.state.project(None, "maps").collections["model", "tiles-test_resnet"].committed[0]
    manifest = json.loads(server.state.storage[one.manifest_path])
    manifest["contents"]["run.py"] = manifest["contents"]["card.json"]
    server.state.storage[one.manifest_path], one.manifest = json.dumps(manifest).encode(), manifest


@pytest.mark.slow
@pytest.mark.browser
def test_models_appear_on_the_page_while_it_is_open_and_answer(wandb_server, visit, tmp_path):
    publish(record(tmp_path / "there"), WHERE, HASTY)
    slow = wandb_server.fail("slow", pattern="GET /storage/artifacts", seconds=1)
    with served(tmp_path / "here", "--project=tester/maps", "--alias=v0") as address:
        page = visit(address)
        expect(page.locator("#cvx-pull")).to_contain_text("tester/maps: 3 new, 0 already here")
        expect(page.locator(".cvx-cell").first).to_be_visible()
        page.get_by_role("button", name="Pull from W&B").click()
        expect(page.locator("#cvx-pull")).to_contain_text("0 new, 3 already here")
        client = Client(address, verbose=False)
        held = client.predict(api_name="/models")
        assert [one["reference"] for one in held["models"]] == ["tiles-test_resnet:v0"]
        found = client.predict(["tiles-test_resnet:best"], "tiles:0", api_name="/compare")
        assert found["answers"][0]["error"] == "" and len(found["answers"][0]["heatmap"]) == 16
    assert slow.hits > 0


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_works_and_says_so_calmly_where_wandb_cannot_be_reached(visit, tmp_path):
    store = make_store(tmp_path / "artifacts")
    flags, key = ["--project=tester/maps"], "0" * 40
    with served(store.root, *flags, WANDB_API_KEY=key) as address:
        page = visit(address)
        expect(page.locator(".cvx-cell").first).to_be_visible(timeout=60000)
        expect(page.locator("#cvx-pull")).to_contain_text("Nothing new from W&B: tester/maps", timeout=90000)
        expect(page.locator("#cvx-pull")).to_contain_text("W&B does not answer")
        expect(page.locator(".cvx-error")).to_have_count(0)
        expect(page.get_by_role("button", name="Pull from W&B")).to_be_enabled()
