"""Every tab of the demo on a projector and on a phone, in light and dark: it fits, and axe finds no serious fault."""

import pytest
from browsing import DESK, PHONE, PROJECTOR, open_tab, serious
from playwright.sync_api import expect
from small_runs import add_runs
from small_store import add_model, make_splits, make_store, served

pytestmark = pytest.mark.browser
TABS = {
    "Compare": ".cvx-quad",
    "Class view": ".cvx-card",
    "Training film": ".cvx-reel",
    "Embeddings": ".cvx-panel .cvx-plot svg",
    "Runs": ".cvx-curves .cvx-plot svg",
    "Agreement": ".cvx-matrix",
    "About": ".cvx-live",
}
TILES = "&".join(f"{tab}.dataset=tiles" for tab in ("classes", "film", "embeddings", "runs", "agreement"))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A store with a third model of one dataset, so that a row and the matrix have three columns."""
    store = make_store(tmp_path_factory.mktemp("browser") / "artifacts")
    add_model(store, make_splits("tiles", 40, 16, 3, True), "test_resnet")
    add_runs(store)
    with served(store.root) as address:
        yield address


@pytest.mark.parametrize("size", [PHONE, PROJECTOR])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_fits_its_width_and_has_no_serious_fault(visit, address, size, scheme):
    page = visit(f"{address}/?{TILES}", size, scheme)
    for tab, inside in TABS.items():
        open_tab(page, tab)
        expect(page.locator(inside).locator("visible=true").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], tab
        assert serious(page) == [], tab
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(paper.split("(")[1].split(",")[0]) > 128) == (scheme == "light")


@pytest.mark.parametrize("size", [PHONE, DESK, PROJECTOR])
def test_what_is_opened_by_hand_fits_and_has_no_serious_fault(visit, address, size):
    link = "datasets=tiles&models=resnet10t&models=vit_tiny&slide.tiles=vit_tiny,resnet10t,40&pixel.tiles=0.5,0.5"
    page = visit(f"{address}/?{link}&which.tiles=wrong&target=class&scale=absolute", size)
    expect(page.locator(".cvx-slider")).to_be_visible()
    rails = "[...document.querySelectorAll('.cvx-rail')].filter(one => one.scrollWidth > one.clientWidth).length"
    assert page.evaluate(rails) == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert serious(page) == []
    page.get_by_role("radio", name="My own image").check()
    expect(page.locator(".cvx-upload")).to_be_visible()
    for source in ("Upload file", "Paste from clipboard", "Capture from camera"):
        expect(page.get_by_label(source).first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
