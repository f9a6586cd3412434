"""Show a sweep: a live table on a terminal, plain lines elsewhere, a table at the end."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cvx.sweeps.runner import SweepDisplay
from cvx.sweeps.sweep_file import Sweep
from cvx.sweeps.trials import DONE, Trial

MAX_ROWS = 18
"""Trials that the live table shows: those that run, the best, and the newest."""
COLORS = {"running": "cyan", "finished": "green", "stopped": "yellow", "failed": "red", "killed": "magenta"}


def text(value: Any) -> str:
    """Write a parameter's or metric's value briefly."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def point(sweep: Sweep, trial: Trial) -> str:
    """Write what tells a trial from the others."""
    return "  ".join(
        f"{parameter.name}={text(trial.values[parameter.name])}"
        for parameter in sweep.varied
        if parameter.name in trial.values
    )


def score(sweep: Sweep, trial: Trial) -> float | None:
    """Return the best value of the sweep's metric that a trial recorded."""
    return sweep.metric.best(trial.history) if sweep.metric else None


def ranked(sweep: Sweep, trials: Sequence[Trial]) -> list[Trial]:
    """Order trials from best to worst; those without a value stand last."""
    sign = -1 if sweep.metric and sweep.metric.maximize else 1
    scored = [(score(sweep, trial), trial) for trial in trials]
    return [trial for _, trial in sorted(scored, key=lambda pair: (pair[0] is None, sign * (pair[0] or 0.0)))]


def best(sweep: Sweep, trials: Sequence[Trial]) -> Trial | None:
    """Return the best of the trials that were run to their end."""
    done = [trial for trial in ranked(sweep, trials) if trial.status == "finished" and score(sweep, trial) is not None]
    return done[0] if done else None


def table(sweep: Sweep, trials: Sequence[Trial], epochs: Mapping[int, float], title: str = "") -> Table:
    """Draw trials as a table."""
    grid = Table(title=title or None, title_justify="left")
    grid.add_column("trial", justify="right")
    for parameter in sweep.varied:
        grid.add_column(parameter.name, justify="right", overflow="fold")
    grid.add_column("status")
    if sweep.metric:
        grid.add_column(sweep.metric.name, justify="right")
    grid.add_column("time", justify="right")
    winner = best(sweep, trials)
    for trial in trials:
        grid.add_row(*_cells(sweep, trial, epochs), style="bold" if winner and trial.key == winner.key else "")
    return grid


def _cells(sweep: Sweep, trial: Trial, epochs: Mapping[int, float]) -> list[str]:
    status = f"[{COLORS[trial.status]}]{trial.status}[/]"
    if trial.number in epochs:
        status += f" epoch {epochs[trial.number]:.1f}"
    seconds = time.time() - trial.started if trial.status == "running" else trial.seconds
    value = score(sweep, trial)
    return [
        str(trial.number),
        *(text(trial.values.get(parameter.name, "")) for parameter in sweep.varied),
        status,
        *([text(value) if value is not None else ""] if sweep.metric else []),
        f"{seconds:.0f} s",
    ]


@contextlib.contextmanager
def view(sweep: Sweep) -> Iterator[SweepDisplay]:
    """Show a sweep on stderr: a live table on a terminal, lines elsewhere."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _Lines(sweep)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield _Table(sweep, live)


@dataclasses.dataclass
class _Lines:
    """One line when a trial starts, and one when it ends: a log file stays readable."""

    sweep: Sweep

    def began(self, trial: Trial) -> None:
        more = f"  continues {trial.resumes}" if trial.resumes else ""
        print(f"trial {trial.number}  {point(self.sweep, trial)}{more}", file=sys.stderr, flush=True)

    def ended(self, trial: Trial) -> None:
        value = score(self.sweep, trial)
        shown = f"  {self.sweep.metric.name} {text(value)}" if self.sweep.metric and value is not None else ""
        why = f"  {trial.error}" if trial.status not in DONE and trial.error else ""
        line = f"trial {trial.number}  {trial.status}{shown}  {trial.seconds:.0f} s{why}"
        print(line, file=sys.stderr, flush=True)

    def show(self, trials: Sequence[Trial], epochs: Mapping[int, float]) -> None:
        """Say nothing: the lines have been said."""


@dataclasses.dataclass
class _Table:
    sweep: Sweep
    live: Live

    def began(self, trial: Trial) -> None:
        """Say nothing: the table shows it."""

    def ended(self, trial: Trial) -> None:
        if trial.status not in DONE and trial.error:
            self.live.console.print(
                f"trial {trial.number} {trial.status}: {trial.error}", highlight=False, markup=False
            )

    def show(self, trials: Sequence[Trial], epochs: Mapping[int, float]) -> None:
        self.live.update(table(self.sweep, shown(self.sweep, trials), epochs, title=_title(trials)))


def shown(sweep: Sweep, trials: Sequence[Trial]) -> list[Trial]:
    """Choose the trials that fit a screen: running, best and newest ones, best first."""
    running = [trial for trial in trials if trial.status == "running"]
    wanted = [*running, *ranked(sweep, trials)[: MAX_ROWS // 2], *reversed(trials)]
    keys = set(list(dict.fromkeys(trial.key for trial in wanted))[:MAX_ROWS])
    return [trial for trial in ranked(sweep, trials) if trial.key in keys]


def _title(trials: Sequence[Trial]) -> str:
    counts = {status: sum(trial.status == status for trial in trials) for status in COLORS}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count)
