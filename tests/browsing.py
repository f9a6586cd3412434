"""Chromium for the tests: pages on which no request leaves the machine and no script fails."""

import contextlib
import shutil
from urllib.parse import urlsplit

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
            ready = page.locator(".cvx-grid, .cvx-welcome, .cvx-film, .cvx-points, .cvx-runs, .cvx-classes, .cvx-about")
            expect(ready.locator("visible=true").first).to_be_visible()
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
