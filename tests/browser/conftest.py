"""A browser, and pages that it visits."""

from browser_fixtures import browser, visit  # noqa: F401
