"""Wait for uploads to W&B while they move, and no longer than W&B answers."""

import concurrent.futures
import dataclasses
import math
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from cvx.tracking.account import DEFAULT_TIMEOUTS, Timeouts, answers

T = TypeVar("T")
ANSWER_S = 4
"""Seconds that wandb's own process has to say what is on its way."""
MB = 1e6


def see_through(run: Any | None, work: Callable[[], T], timeouts: Timeouts = DEFAULT_TIMEOUTS) -> T:
    """Do something that waits for W&B, for as long as anything of the run moves or W&B answers.

    wandb's own timeouts are of no use for that: a request that has timed out once is given up, and waiting for it again
    raises an error; and some calls wait and take no timeout. So the work waits in a thread of its own, which is left
    behind if W&B is gone.

    Args:
        run: Whose uploads are looked at; None if the work belongs to none, and then it has as long as a W&B that takes
            nothing.

    Raises:
        OSError: If W&B does not answer any more, or answers and takes nothing for long.
    """
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    threading.Thread(target=_fulfill, args=(outcome, work), name="cvx-wandb-wait", daemon=True).start()
    watch = _Watch(run, timeouts)
    while not concurrent.futures.wait([outcome], timeout=timeouts.poll).done:
        watch.look()
    return outcome.result()


def _fulfill(outcome: "concurrent.futures.Future[T]", work: Callable[[], T]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is raised again by whoever waits
        outcome.set_exception(error)


def drain(run: Any, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
    """Wait until no row, picture or table of a run is on its way: `finish` itself would cut them off after seconds.

    Raises:
        OSError: If W&B does not answer any more, or answers and takes nothing for long.
    """
    watch, looked = _Watch(run, timeouts), time.monotonic()
    while (state := _on_the_way(run)) is not None and state.left:
        time.sleep(0.2)
        if time.monotonic() - looked > timeouts.poll:
            watch.look()
            looked = time.monotonic()


@dataclasses.dataclass(frozen=True)
class _OnTheWay:
    """What wandb's own process says of a run's uploads."""

    sent: int
    """Bytes of files; those that are tried again count anew."""
    total: int
    left: int
    """Requests at work, and pictures and tables that wait for their turn."""


def _on_the_way(run: Any) -> _OnTheWay | None:
    """Ask wandb's own process; None if it does not say."""
    try:
        answer = run._interface.deliver_poll_exit().wait_or(timeout=ANSWER_S).response.poll_exit_response
        waiting = sum(path.is_file() for path in Path(run.dir).glob("media/**/*")) - answer.file_counts.media_count
        sent, total = answer.pusher_stats.uploaded_bytes, answer.pusher_stats.total_bytes
        return _OnTheWay(sent, total, answer.operation_stats.total_operations + max(waiting, 0))
    except Exception:  # noqa: BLE001 - nothing but wandb speaks here, and only what it shows people depends on it
        return None


class _Watch:
    """Remembers when something last moved and when W&B last answered, shows progress, and gives up."""

    def __init__(self, run: Any | None, timeouts: Timeouts):
        self._run = run
        self._timeouts = timeouts
        self._began = self._moved = self._heard = time.monotonic()
        self._sent, self._left = 0, math.inf
        self._pause = 2.0 * timeouts.poll
        self._tell_at = self._began + self._pause

    def look(self) -> None:
        """Return if there is a point in waiting on.

        Raises:
            OSError: If there is none.
        """
        state = None if self._run is None else _on_the_way(self._run)
        if state is not None and (state.sent > self._sent or state.left < self._left):
            self._sent, self._left = max(state.sent, self._sent), state.left
            self._moved = self._heard = time.monotonic()
        elif answers(self._timeouts):
            self._heard = time.monotonic()
            if state is None and self._run is not None:  # wandb does not say what moves: it may well do
                self._moved = self._heard
        now = time.monotonic()
        if now - self._heard > self._timeouts.connect:
            raise OSError("W&B does not answer any more")
        if now - self._moved > self._timeouts.artifact:
            raise OSError(f"W&B answers, but has taken nothing for {now - self._moved:.0f} seconds")
        if state is not None and state.sent < state.total and now > self._tell_at:
            self._tell(state)

    def _tell(self, state: _OnTheWay) -> None:
        """Say how far it is, less and less often."""
        self._pause *= 2
        self._tell_at += self._pause
        print(f"W&B: {state.sent / MB:.1f} of {state.total / MB:.1f} MB sent", file=sys.stderr, flush=True)
