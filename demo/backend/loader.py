"""The shelf, made in the background: torch and timm take seconds to import that the page does not wait for."""

import importlib
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from demo.backend.run_history import RunHistory
    from demo.backend.service import ModelService

LATER = (
    "demo.backend.map_rows",
    "demo.components.map_grid.map_grid",
    "demo.components.image_picker.image_picker",
    "demo.components.class_cards.class_cards",
    "timm",
    "matplotlib",
    "demo.components.film_player.film_player",
)
"""What the first answers need, imported while a visitor reads the page."""


class BackgroundLoader:
    """A store that is about to be readable."""

    def __init__(self, root: Path):
        self.root = root
        self._opened: Future[tuple[ModelService, RunHistory]] = Future()
        threading.Thread(target=self._open, daemon=True).start()

    @property
    def shelf(self) -> "ModelService":
        """Return the shelf, as soon as there is one."""
        return self._opened.result()[0]

    @property
    def history(self) -> "RunHistory":
        """Return the runs, as soon as they can be read."""
        return self._opened.result()[1]

    def _open(self) -> None:
        try:
            from demo.backend.run_history import RunHistory
            from demo.backend.service import ModelService

            self._opened.set_result((ModelService(self.root), RunHistory(self.root)))
        except BaseException as error:
            self._opened.set_exception(error)
            raise
        for name in LATER:
            importlib.import_module(name)
