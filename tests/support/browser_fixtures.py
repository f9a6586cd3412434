"""Chromium and pages of the demo as fixtures, for the folders whose tests drive a browser."""

import browsing
import pytest


@pytest.fixture(scope="module")
def browser():
    """One Chromium for the tests of a module."""
    with browsing.chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser):
    """Open pages of the demo; at the end, no request may have left the machine and no script may have failed."""
    with browsing.visits(browser) as visit:
        yield visit
