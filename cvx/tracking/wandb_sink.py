"""Stream a run to W&B while it trains: a thread sends what the run's folder holds, and follows it while it grows."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cvx.store.runs import Run, Sink
from cvx.tracking import wandb_process
from cvx.tracking.account import DEFAULT_TIMEOUTS, Target, Timeouts, one_line, reason_not_online, target
from cvx.tracking.finish import Page
from cvx.tracking.publish import AtWork, Published, Say, send, tell

LONGEST_PAUSE_S = 300.0
"""Between two attempts to reach W&B while a run is at work."""


class WandbSink:
    """Streams a run to W&B, and never keeps the loop waiting.

    What the loop says only wakes the thread, which reads the run's folder and sends what W&B has not got. So it comes
    to the same whether a run begins, is resumed, or finds W&B again after a while. The thread may be slow, or get
    nowhere at all; then `publish` sends what is missing.

    Args:
        say: Hears the few lines that a person should read.
        page: Draws the finished run's own page, which is sent too.
    """

    def __init__(self, where: Target, timeouts: Timeouts = DEFAULT_TIMEOUTS, say: Say = tell, page: Page | None = None):
        self._where = where
        self._timeouts = timeouts
        self._page = page
        self._say = say
        self._news, self._closed, self._abandoned = threading.Event(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._exit_code = 1  # until the run has ended well
        self._folder: Path | None = None

    def start(self, folder: Path) -> None:
        """Begin with the run of this folder, or continue it."""
        self._folder = folder
        self._thread = threading.Thread(target=self._work, args=(folder,), name="cvx-wandb", daemon=True)
        self._thread.start()

    def log(self, row: Mapping[str, float]) -> None:
        """Hear that the folder has a new row."""
        self._news.set()

    def frame(self, kind: str, epoch: int, path: Path) -> None:
        """Hear that a frame was written; it is read when the next row comes."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Hear that the final numbers are written; they are read at the end."""

    def close(self, exit_code: int = 0) -> None:
        """Wait until W&B has everything, for as long as that makes sense, and say what is to be done if it has not."""
        if self._thread is None:
            return
        self._exit_code = exit_code
        self._closed.set()
        self._news.set()
        try:
            self._thread.join()
        except (KeyboardInterrupt, SystemExit):  # asked a second time to stop: not even wandb's own end is waited for
            self._abandoned.set()
            wandb_process.kill()
            self._say(f"W&B: not waited for. {self._advice()}")
            raise

    def _work(self, folder: Path) -> None:
        """Send and follow the folder until all is there; whatever goes wrong costs the connection, never the run."""
        pause = self._timeouts.pause
        while True:
            was_over, begun = self._closed.is_set(), time.monotonic()
            try:
                done = self._send(folder)
                if not done.missing:
                    self._say(f"W&B: all {done.steps} steps are at {done.url}")
                    return
                problem, in_vain = done.missing, was_over  # what a stream lost on its way, another one sends
            except Exception as error:  # noqa: BLE001 - no failure of W&B may reach training
                problem, in_vain = one_line(error), self._closed.is_set()
            if self._abandoned.is_set():
                return
            if in_vain:
                self._say(f"W&B: {problem}. {self._advice()}")
                return
            if time.monotonic() - begun > LONGEST_PAUSE_S:  # it streamed for long before it broke
                pause = self._timeouts.pause
            if pause == self._timeouts.pause and not self._closed.is_set():
                self._say(f"W&B: {problem}. It is tried again while training goes on")
            self._closed.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _send(self, folder: Path) -> Published:
        self._news.set()  # what lies in the folder already is news to a new connection
        at_work = AtWork(self._more, lambda: self._exit_code)
        return send(folder, self._where, self._timeouts, self._page, self._say, at_work)

    def _more(self) -> bool:
        self._news.wait()
        self._news.clear()
        return not self._closed.is_set()

    def _advice(self) -> str:
        return f"Everything is recorded locally; to send what is missing: {publish_command(self._folder)}"


class Once:
    """Says each thing once, however many runs a command trains."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, topic: str, line: str) -> None:
        """Print a line, unless one of its topic was printed before."""
        if topic not in self._said:
            self._said.add(topic)
            print(line, file=sys.stderr, flush=True)


class LocalSink:
    """Says when a run begins that it is recorded locally, and how to send it later.

    Args:
        once: Given by a command that trains many runs; then it is said for all of them.
    """

    def __init__(self, reason: str, once: Once | None = None):
        self._reason = reason
        self._once = once

    def start(self, folder: Path) -> None:
        """Say it."""
        what, command = ("it", publish_command(folder)) if self._once is None else ("all", publish_all(folder))
        line = f"recording locally ({self._reason}); to send {what} to W&B later: {command}"
        (self._once or Once()).say("local", line)

    def log(self, row: Mapping[str, float]) -> None:
        """Hear one row of metrics."""

    def frame(self, kind: str, epoch: int, path: Path) -> None:
        """Hear that a frame was written."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Hear the final numbers."""


def publish_command(folder: Path | None) -> str:
    """Return the command that sends a run later."""
    if folder is None:
        return "python -m cvx publish"
    return publish_all(folder).replace("publish", f"publish {folder.name}", 1)


def publish_all(folder: Path) -> str:
    """Return the command that sends all runs beside one."""
    root = Run(folder).store_root
    return "python -m cvx publish" + ("" if str(root) == "artifacts" else f" --artifacts={root}")


@contextlib.contextmanager
def wandb_sinks(mode: str, project: str, page: Page | None = None, once: Once | None = None) -> Iterator[list[Sink]]:
    """Give the sinks of a run: one that streams to W&B where there is an account, one that says so where there is not.

    Args:
        mode: `auto`, `on` or `off`.
        project: `[ENTITY/]PROJECT`, or nothing for WANDB_PROJECT or `cvx`.
        page: Draws the finished run's own page for W&B.
        once: Shared by the runs of a command that trains many: that they are recorded locally is said once.

    Raises:
        ValueError: If the project's name is wrong, or W&B is insisted on and there is no account.
    """
    where = target(project)
    if os.environ.get("RANK", "0") != "0":  # one process of a torchrun job speaks for all
        yield []
        return
    if reason := reason_not_online(mode):
        yield [] if mode == "off" else [LocalSink(reason, once)]
        return
    sink = WandbSink(where, page=page)
    with _ending_on_sigterm():
        try:
            yield [sink]
        except BaseException as error:
            sink.close(_exit_code(error))
            raise
        sink.close()


def _exit_code(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 128 + int(getattr(error, "signum", signal.SIGINT)) if isinstance(error, KeyboardInterrupt) else 1


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Turn a SIGTERM outside the loop, which has its own way to stop, into an orderly end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(signum: int, _frame: object) -> None:
        sys.exit(128 + signum)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
