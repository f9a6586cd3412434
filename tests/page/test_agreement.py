"""What the tab Agreement draws, answers and links to; one test in a real browser."""

import re

import numpy as np
import pytest
from browsing import PHONE
from playwright.sync_api import expect
from small_store import add_model, bare_tab, cut_weights, make_splits, make_store, served

from cvx import comparison
from cvx.comparison import Options
from cvx.metrics import agreement as library
from demo.backend.service import ModelService
from demo.components.agreement_matrix import agreement_matrix
from demo.state.tab_link import TabLink
from demo.tabs.agreement import CONDITIONS, MEASURES, AgreementTab


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("agreement") / "artifacts")
    add_model(store, make_splits("tiles", 40, 16, 3, True), "resnet10t", seed=7)
    return store


@pytest.fixture
def service(store):
    return ModelService(store.root)


def draw(service, models=("resnet10t", "vit_tiny"), pair=(), measure="spearman", condition="all", link=""):
    return agreement_matrix.page(
        service, service.catalog().datasets["tiles"], models, pair, measure, condition, 50, link
    )


def test_the_tab_offers_what_the_library_measures():
    assert [value for _, value in MEASURES] == list(library.MEASURES)
    assert [value for _, value in CONDITIONS] == list(comparison.CONDITIONS)


def test_the_matrix_holds_the_librarys_numbers(store, service):
    references = [service.catalog().datasets["tiles"].columns[name].reference for name in ("resnet10t", "vit_tiny")]
    found = comparison.agreement(store, references, Options(num=50))
    for measure in found.names:
        page = draw(service, measure=measure)
        mean = found.interval(measure, 0, 1).text().partition(" ")[0]
        assert page.count(f"<b>{mean}</b>") >= 2
        assert f"<b>{found.floor(measure, 1, 'sobel').text().partition(' ')[0]}</b>" in page


def test_the_images_shown_are_those_on_which_the_two_differ_most(store, service):
    columns = service.catalog().datasets["tiles"].columns
    pair = ("vit_tiny", "resnet10t")
    found = comparison.agreement(store, [columns[name].reference for name in pair[::-1]], Options(num=50))
    page = draw(service, pair=pair, measure="ssim")
    rows = [int(row) for row in re.findall(r'data-row="(\d+)"', page)]
    assert rows == found.most_different(0, 1, "ssim", 8).tolist()
    assert "Where resnet10t and vit_tiny differ most" in page


def test_without_a_choice_the_least_alike_pair_is_shown(store, service):
    models = tuple(service.catalog().datasets["tiles"].columns)
    page = draw(service, models=models)
    found = comparison.agreement(
        store, [service.catalog().datasets["tiles"].columns[name].reference for name in models], Options(num=50)
    )
    means = found.matrix("spearman")
    i, j = np.unravel_index(np.argmin(means), means.shape)
    first, second = sorted((i, j))
    assert f"Where {models[first]} and {models[second]} differ most" in page
    assert page.count('aria-pressed="true"') == 2


def test_a_condition_that_no_image_meets_is_said(store, service):
    found = comparison.agreement(
        store,
        [service.catalog().datasets["tiles"].columns[n].reference for n in ("resnet10t", "vit_tiny")],
        Options(num=50),
    )
    for condition in comparison.CONDITIONS:
        page = draw(service, condition=condition)
        rows = [int(row) for row in re.findall(r'data-row="(\d+)"', page)]
        mask = found.mask(0, 1, condition)
        assert mask[rows].all() and bool(rows) == bool(mask.any())
        assert ("No such image" in page) == (not mask.any())


def test_models_that_cannot_be_compared_say_why(tmp_path):
    store = make_store(tmp_path / "artifacts")
    cut_weights(store.resolve("tiles-vit_tiny"))
    page = draw(ModelService(store.root))
    assert "These models cannot be compared" in page and "cut short or changed" in page


def test_a_link_opens_what_it_was_written_for(service):
    tab = bare_tab(AgreementTab, service=service)
    said = (["vit_tiny", "resnet10t"], "tiles", ["resnet10t", "vit_tiny"], "hog", "disagree", 100)
    from urllib.parse import parse_qsl

    pair, dataset, models, measure, condition, num = tab.fill(TabLink("agreement", parse_qsl(tab.link(*said))))
    assert set(pair) == set(said[0]) and dataset["value"] == "tiles" and models["value"] == said[2]
    assert (measure, condition, num) == said[3:]


def test_one_model_is_too_few_and_a_dataset_that_is_gone_breaks_nothing(service):
    tab = bare_tab(AgreementTab, service=service)
    assert "Choose two models" in tab.draw([], "tiles", ["vit_tiny"], "hog", "all", 50)[0]
    assert "Choose a dataset" in tab.draw([], "gone", ["vit_tiny"], "hog", "all", 50)[0]
    assert tab.fill(TabLink("agreement", [("agreement.dataset", "gone")]))[1]["value"] == "dots"


@pytest.mark.browser
@pytest.mark.slow
def test_a_cell_chooses_two_models_and_a_picture_leads_to_compare(store, visit):
    with served(store.root) as address:
        page = visit(f"{address}/?tab=agreement&agreement.dataset=tiles", PHONE)
        page.locator('.cvx-matrix button[data-first="vit_tiny"][data-second="resnet10t"]').click()
        expect(page.get_by_text("Where resnet10t and vit_tiny differ most")).to_be_visible()
        expect(page).to_have_url(re.compile(r"agreement\.pair=vit_tiny"))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        row = page.locator("button[data-row]").first.get_attribute("data-row")
        page.locator("button[data-row]").first.click()
        expect(page.locator(".cvx-cell").locator("visible=true")).to_have_count(2)
        expect(page).to_have_url(re.compile(rf"target=label.*image\.tiles={row}" if row != "0" else "target=label"))
