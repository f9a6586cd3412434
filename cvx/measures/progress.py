"""How far a long computation is."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Ticks:
    """Hears of every part that is done."""

    def __init__(self, progress: Progress | None = None, total: int = 0):
        self._progress = progress
        self._task = progress.add_task("", total=total) if progress else None

    def tell(self, what: str) -> None:
        """Say what is being computed."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=what)

    def tick(self) -> None:
        """Count one part more."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)


@contextmanager
def ticking(total: int, show: bool) -> Iterator[Ticks]:
    """Show a bar of `total` parts on a terminal's stderr, gone when done; elsewhere, or with nothing to do, nothing."""
    console = Console(file=sys.stderr)
    if not (show and total and console.is_terminal):
        yield Ticks()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress:
        yield Ticks(progress, total)
