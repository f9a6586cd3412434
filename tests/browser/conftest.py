"""A browser, and pages that it visits."""

from browsing import browser, visit  # noqa: F401
