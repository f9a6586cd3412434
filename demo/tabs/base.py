"""The parts of a tab that the page relies on."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from demo.backend.background_loader import BackgroundLoader
from demo.state.tab_link import TabLink


class Tab(Protocol):
    """A tab with its components; it is filled with every visit and drawn when it is looked at."""

    name: ClassVar[str]
    """Its word in links, in `cvx.say` and for the page."""
    title: ClassVar[str]
    """Its name as visitors read it."""

    def __init__(self, loader: BackgroundLoader): ...

    @property
    def queue(self) -> dict[str, Any]:
        """The queue in which `draw` waits, as settings of an event."""

    @property
    def image_source(self) -> Any:
        """The component whose event `look` names an image for the tab Compare; None if it has none."""

    @property
    def fill_outputs(self) -> Sequence[Any]:
        """The components that `fill` returns values for."""

    @property
    def link_inputs(self) -> Sequence[Any]:
        """The components whose values `link` takes."""

    @property
    def draw_inputs(self) -> Sequence[Any]:
        """The components whose values `draw` takes."""

    @property
    def draw_outputs(self) -> Sequence[Any]:
        """The components that `draw` returns values for."""

    def fill(self, link: TabLink) -> list[Any]:
        """Bring the controls up to the store as it is now, as a link says."""

    @property
    def link(self) -> Callable[..., str]:
        """Write down what was chosen."""

    @property
    def draw(self) -> Callable[..., list[Any]]:
        """Draw what was asked for."""
