"""Show progress: a live bar on a terminal, plain lines or nothing elsewhere."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@runtime_checkable
class Bar(Protocol):
    """A progress display, told of every step and of every recorded row."""

    def step(self) -> None:
        """Count one optimizer step."""

    def row(self, row: Mapping[str, float]) -> None:
        """Show the newest numbers."""


@contextmanager
def training_bar(title: str, total: int, done: int, show: bool = True) -> Iterator[Bar]:
    """Show the progress of `total` steps, `done` of which lie behind, on stderr."""
    console = Console(file=sys.stderr)
    if not show:
        yield _Silent()
    elif not console.is_terminal:
        yield _Lines(title)
    else:
        with _progress(console) as progress:
            yield _Live(progress, progress.add_task(title, total=total, completed=done, numbers=""))


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, refresh_per_second=4)


class _Silent:
    def step(self) -> None:
        pass

    def row(self, row: Mapping[str, float]) -> None:
        pass


class _Lines(_Silent):
    """One line per epoch: a log file stays readable."""

    def __init__(self, title: str):
        self._title = title
        self._speed = 0.0

    def row(self, row: Mapping[str, float]) -> None:
        self._speed = row.get("time/images_per_s", self._speed)
        if "val/acc1" in row:
            numbers = f"val loss {row['val/loss']:.3f}  val acc {row['val/acc1']:.3f}"
            speed = f"{self._speed:.0f} images/s" if self._speed else "untrained"
            line = f"{self._title}  epoch {row['epoch']:g}  {numbers}  {speed}"
            print(line, file=sys.stderr, flush=True)


class _Live(_Silent):
    def __init__(self, progress: Progress, task):
        self._progress = progress
        self._task = task
        self._shown: dict[str, float] = {}

    def step(self) -> None:
        self._progress.advance(self._task)

    def row(self, row: Mapping[str, float]) -> None:
        self._shown.update(row)
        parts = (
            ("loss {:.3f}", "train/loss"),
            ("acc {:.3f}", "train/acc1"),
            ("val acc {:.3f}", "val/acc1"),
            ("{:.0f} images/s", "time/images_per_s"),
        )
        text = "  ".join(form.format(self._shown[key]) for form, key in parts if key in self._shown)
        self._progress.update(self._task, numbers=text)


class Ticks:
    """A progress bar of parts; without a display it does nothing."""

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
