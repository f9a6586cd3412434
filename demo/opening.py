"""The shelf, made in the background: torch and timm take seconds to import that the page does not wait for."""

import importlib
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demo.shelf import Shelf

LATER = ("demo.looking", "demo.grid", "demo.picker", "demo.classes", "timm", "matplotlib")
"""What the first answers need, imported while a visitor reads the page."""


class Opening:
    """A store that is about to be readable."""

    def __init__(self, root: Path):
        self.root = root
        self._shelf: Future[Shelf] = Future()
        threading.Thread(target=self._open, daemon=True).start()

    @property
    def shelf(self) -> "Shelf":
        """Return the shelf, as soon as there is one."""
        return self._shelf.result()

    def _open(self) -> None:
        try:
            from demo.shelf import Shelf

            self._shelf.set_result(Shelf(self.root))
        except BaseException as error:
            self._shelf.set_exception(error)
            raise
        for name in LATER:
            importlib.import_module(name)
