"""The report in a browser: light and dark, wide and narrow, its film and its scales, and on paper."""

import pytest
from browsing import DESK, PHONE, chromium, leaves, serious
from recorded_run import record
from small_store import make_store

from cvx.report import fill, html, read_store

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("report") / "artifacts")
    record(store.root, "run-a")
    found = read_store.read(store, num=12)
    return html.write(store.root, html.render(found, fill.fill(found))).as_uri()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser, address):
    troubles, contexts = [], []

    def open_page(size=DESK, scheme="light"):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: troubles.append(request.url) if leaves(request.url) else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_it_fits_the_window_and_anyone_can_read_it(visit, size, scheme):
    page = visit(size, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    assert serious(page) == []


def test_the_film_plays_and_its_strip_shows_the_image_that_was_clicked(visit):
    page = visit()
    film = page.locator("[data-film]").first
    shown = film.locator(".frames .shot:not(button)").first
    place = "node => getComputedStyle(node).backgroundPositionY"
    assert shown.evaluate(place) == "100%" and "epoch 2" in film.locator(".now").first.inner_text()
    film.locator("input").fill("0")
    assert shown.evaluate(place) == "0%" and "epoch 0" in film.locator(".now").first.inner_text()
    picture = "node => getComputedStyle(node).backgroundImage"
    frame = film.locator(".strip .shot").first
    before = frame.evaluate(picture)
    film.locator("button.shot").nth(3).click()
    fourth = film.locator(".frames .shot:not(button)").nth(3)
    assert before != frame.evaluate(picture) == fourth.evaluate(picture)


def test_a_grid_shows_one_way_of_drawing_at_a_time(visit):
    page = visit()
    grid = page.locator("#maps .maps").first
    cell = grid.locator(".grid figure:not(.given)").first
    kinds = "node => [...node.querySelectorAll('img')].filter(one => one.offsetWidth).map(one => one.className)"
    assert cell.evaluate(kinds) == ["way way-shared"]
    for way in ("model", "each", "signed", "shared"):
        grid.locator(f"input[value={way}]").check(force=True)
        assert cell.evaluate(kinds) == [f"way way-{way}"]
        assert grid.locator(".bar:visible").count() == (way in ("shared", "signed"))


def test_on_paper_there_is_no_player_and_nothing_is_cut_off(visit):
    page = visit(size=(703, 1000))  # A4 less its margins
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") == 703
    assert not page.locator(".player").first.is_visible() and not page.locator("nav").is_visible()
    assert len(page.pdf(format="A4")) > 10_000
