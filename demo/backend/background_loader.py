"""Import torch and timm and open the store in a background thread, so that the page appears at once."""

import importlib
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demo.backend.run_history import RunHistory
    from demo.backend.service import ModelService

PRELOADED = (
    "demo.backend.map_rows",
    "demo.components.map_grid.map_grid",
    "demo.components.image_picker.image_picker",
    "demo.components.class_cards.class_cards",
    "timm",
    "matplotlib",
    "demo.components.film_player.film_player",
)
"""Modules that the first answers need, imported while a visitor reads the page."""


class BackgroundLoader:
    """Opens a store in the background; `service` and `run_history` wait until it is open."""

    def __init__(self, root: Path):
        self.root = root
        self._opened: Future[tuple[ModelService, RunHistory]] = Future()
        threading.Thread(target=self._open, daemon=True).start()

    @property
    def service(self) -> "ModelService":
        """Return the store's service; wait until it is there."""
        return self._opened.result()[0]

    @property
    def run_history(self) -> "RunHistory":
        """Return the store's runs; wait until they can be read."""
        return self._opened.result()[1]

    def _open(self) -> None:
        try:
            from demo.backend.run_history import RunHistory
            from demo.backend.service import ModelService

            self._opened.set_result((ModelService(self.root), RunHistory(self.root)))
        except BaseException as error:
            self._opened.set_exception(error)
            raise
        for name in PRELOADED:
            importlib.import_module(name)
