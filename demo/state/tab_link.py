"""Links of the tabs beside Compare: query parameters that begin with the tab's name."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

RENAMED = {"points": "embeddings"}
"""Names that tabs have had in links, and the name that they have now; page.js knows them, too."""


def rename_old_tabs(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Write a link's parameters, as pairs of key and value, with the names that tabs have now."""
    renamed = []
    for key, value in pairs:
        tab, dot, field = key.partition(".")
        renamed.append((RENAMED.get(tab, tab) + dot + field, RENAMED.get(value, value) if key == "tab" else value))
    return renamed


class TabLink:
    """The part of a link that is about one tab; what is missing or no longer exists falls back to a default."""

    def __init__(self, tab: str, pairs: Iterable[tuple[str, str]]):
        self._said: dict[str, list[str]] = {}
        for key, value in pairs:
            name, _, field = key.partition(".")
            if name == tab and field:
                self._said.setdefault(field, []).append(value)

    def one(self, field: str, offered: Sequence[str]) -> str | None:
        """Return the value of a field, or the first that is offered."""
        said = self._said.get(field, [""])[-1]
        return said if said in offered else next(iter(offered), None)

    def some(self, field: str, offered: Sequence[str]) -> list[str]:
        """Return those values of a field that are offered, in the order of the offer."""
        said = self._said.get(field, [])
        return [value for value in offered if value in said]

    def number(self, field: str, default: int = 0, most: int = 10**6) -> int:
        """Return a whole number from 0 to `most`."""
        said = self._said.get(field, [""])[-1]
        return int(said) if said.isdecimal() and len(said) < 9 and int(said) <= most else default

    @staticmethod
    def write(tab: str, said: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
        """Write a query string; a field at its default is left out."""
        pairs = []
        for field, value in said.items():
            if value != defaults.get(field, "") and value is not None:
                pairs += [(f"{tab}.{field}", each) for each in (value if isinstance(value, list) else [value])]
        return urlencode(pairs)
