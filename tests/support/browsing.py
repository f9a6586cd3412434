"""Chromium for the tests, also as fixtures: pages on which no request leaves the machine and no script fails."""

import contextlib
import shutil
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL without a graphics card
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
DESK, PHONE, PROJECTOR = (1440, 900), (390, 844), (1920, 1080)
READY = ".cvx-grid, .cvx-welcome, .cvx-film, .cvx-points, .cvx-runs, .cvx-classes, .cvx-agree, .cvx-about"
"""What a tab shows when it is drawn, or the page of an empty store."""
expect.set_options(timeout=90_000)


@contextlib.contextmanager
def chromium():
    """Run a browser."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert found, "the browser tests need Chromium: run `make setup-system`"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def visits(browser):
    """Open pages; at the end, no request may have left the machine and no script may have failed."""
    troubles = []
    with contextlib.ExitStack() as pages:

        def open_page(address, size=DESK, scheme="light", script=""):
            context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
            pages.callback(context.close)
            context.add_init_script(script)
            page = context.new_page()
            page.set_default_timeout(90_000)
            page.on("request", lambda request: troubles.append(request.url) if leaves(request.url) else None)
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.goto(address)
            expect(page.locator(READY).locator("visible=true").first).to_be_visible()
            return page

        yield open_page
    assert troubles == []


def leaves(url):
    """Tell whether a request goes to another machine."""
    local = urlsplit(url).hostname in ("127.0.0.1", "localhost")
    return urlsplit(url).scheme in ("http", "https", "ws", "wss") and not local


def serious(page):
    """Return what axe finds wrong with a page's accessibility, if it is serious."""
    page.emulate_media(reduced_motion="reduce")
    page.wait_for_timeout(500)
    expect(page.locator(".pending").locator("visible=true")).to_have_count(0)  # what is being redrawn is pale
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], node["target"], node["failureSummary"])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def open_tab(page, name):
    """Open a tab; where there is no room for all of them, some are in a menu."""
    menu = page.locator(".overflow-menu > button")
    if menu.is_visible() and page.locator(".overflow-dropdown button", has_text=name).count():
        menu.click()
        page.locator(".overflow-dropdown button", has_text=name).click()
    else:
        page.get_by_role("tab", name=name).click()


def cell(page, row, model):
    """Return a model's cell in the row of a dataset whose title begins so."""
    return page.locator(f'.cvx-row[aria-label^="{row}"] .cvx-cell[aria-label="{model}"]')


def strip(page, dataset):
    """Return a dataset's strip of samples in the tab Compare."""
    return page.locator(f'#cvx-compare .cvx-strip[data-dataset="{dataset}"]')


def choose(page, label, option):
    """Choose from a dropdown of Gradio's."""
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option", name=option, exact=True).click()


def map_of(page, row="Tiles", model="resnet10t"):
    """Return the picture of a map as the page has it."""
    return cell(page, row, model).locator("figure:nth-of-type(2) img").get_attribute("src")


@pytest.fixture(scope="module")
def browser():
    """One Chromium for the tests of a module."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser):
    """Open pages of the demo; at the end, no request may have left the machine and no script may have failed."""
    with visits(browser) as visit:
        yield visit
