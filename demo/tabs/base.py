"""What the page asks of a tab that is drawn when it is opened."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from demo.state.tab_link import TabLink


class Tab(Protocol):
    """A tab with its components; it is filled with every visit and drawn when it is looked at."""

    @property
    def outputs(self) -> Sequence[Any]:
        """What `fill` returns values for."""

    @property
    def kept(self) -> Sequence[Any]:
        """What `link` writes down."""

    @property
    def asked(self) -> Sequence[Any]:
        """What `draw` takes."""

    @property
    def drawn(self) -> Sequence[Any]:
        """What `draw` returns values for."""

    def fill(self, link: TabLink) -> list[Any]:
        """Bring the controls up to the store as it is now, as a link says."""

    @property
    def link(self) -> Callable[..., str]:
        """Write down what was chosen."""

    @property
    def draw(self) -> Callable[..., list[Any]]:
        """Draw what was asked for."""
