"""The demo's empty, slow and broken states in a real browser; W&B out of reach is in tests/page/test_wandb_pull.py."""

import shutil
import subprocess

import pytest
from browsing import cell, serious
from playwright.sync_api import expect
from small_store import break_card, cut_weights, make_store, served

pytestmark = pytest.mark.browser


def test_an_empty_store_fills_while_the_page_is_open_and_broken_models_stay_apart(visit, tmp_path):
    root = tmp_path / "artifacts"
    with served(root) as address:
        page = visit(address)
        expect(page.locator(".cvx-welcome")).to_contain_text("No models yet")
        expect(page.locator(".cvx-welcome code").nth(1)).to_have_text(f"python -m cvx starter --artifacts={root}")
        store = make_store(root)
        expect(cell(page, "Tiles", "vit_tiny").locator(".cvx-quad")).to_be_visible()
        expect(page.locator(".cvx-welcome")).to_be_hidden()
        cut_weights(store.resolve("tiles-resnet10t"))
        break_card(store, "dots-lost")
        page.get_by_role("button", name="Refresh").click()
        expect(page.locator("#cvx-trouble summary")).to_contain_text("1 stored model is broken")
        again = visit(address)
        expect(again.locator("#cvx-trouble summary")).to_contain_text("1 stored model is broken")
        again.locator("#cvx-trouble summary").click()
        expect(again.locator("#cvx-trouble li")).to_contain_text("dots-lost:v0")
        expect(cell(again, "Tiles", "vit_tiny").locator(".cvx-quad")).to_be_visible()


def test_the_starter_models_are_trained_from_the_page_once_for_all_visitors(visit, tmp_path, data_root):
    root = tmp_path / "artifacts"
    with served(root, CVX_DATA=str(data_root)) as address:
        one, other = visit(address), visit(address)
        one.get_by_role("button", name="Train the starter models").click()
        expect(one.locator(".cvx-welcome")).to_contain_text("Training the starter models")
        # by script: the page may have noticed already that a training runs, and have disabled its button
        other.get_by_role("button", name="Train the starter models").evaluate("button => button.click()")
        expect(other.locator(".cvx-welcome")).to_contain_text("of the epochs")
        expect(other.locator(".cvx-welcome progress")).to_have_count(4)
        assert len(trainings(root)) == 1
        expect(one.locator(".cvx-progress")).to_contain_text("val acc", timeout=240_000)
    assert trainings(root) == []


def trainings(root):
    """Return the processes that train into a store."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "cvx starter" in line and str(root) in line]


def test_a_dataset_without_samples_and_a_damaged_model_say_what_to_do_beside_those_that_work(visit, tmp_path):
    store = make_store(tmp_path / "artifacts")
    shutil.rmtree(store.root / "samples" / "dots")
    cut_weights(store.resolve("tiles-resnet10t"))
    with served(store.root) as address:
        page = visit(address)
        expect(cell(page, "Tiles", "vit_tiny").locator(".cvx-quad")).to_be_visible()
        rows = page.locator(".cvx-row")
        expect(rows.nth(0)).to_contain_text("no samples to choose from")
        expect(rows.nth(0)).to_contain_text("upload an image instead")
        broken = rows.nth(1).locator(".cvx-cell", has_text="This model cannot answer")
        expect(broken).to_contain_text("resnet10t")
        expect(broken).to_contain_text("cut short or changed")
        assert serious(page) == []
        page.get_by_role("tab", name="Class view").click()
        expect(page.locator(".cvx-notice").locator("visible=true")).to_contain_text("No samples to look at")
        for tab in ("Training film", "Embeddings", "Runs"):  # no run has been recorded
            page.get_by_role("tab", name=tab).click()
            expect(page.locator(".cvx-notice").locator("visible=true").first).to_contain_text("Choose a run")
        page.get_by_role("tab", name="Agreement").click()
        expect(page.locator(".cvx-stage .cvx-notice").locator("visible=true")).to_contain_text("Choose two models")
        page.get_by_role("tab", name="About").click()
        expect(page.locator(".cvx-about")).to_contain_text("vanilla gradient")
