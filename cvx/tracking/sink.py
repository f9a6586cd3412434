"""A run at work, streamed: the loop hands over rows and paths, and a thread of its own sends them."""

import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cvx.records import Sink
from cvx.tracking import artifacts
from cvx.tracking.account import PATIENT, Patience, Target, one_line, reason_not_online, target
from cvx.tracking.connection import Link, link_for, open_run, scratch_folder
from cvx.tracking.ending import Page, check, complete_pictures, ending, send_artifacts, send_samples
from cvx.tracking.upload import Upload

Event = Callable[[Upload], None]


class WandbSink:
    """Streams a run to W&B, and never keeps the loop waiting.

    What the loop says is put into a queue of small things: rows, and paths of files that are written already. The
    thread that empties it may be slow, or get nowhere at all; then `publish` sends what is missing.

    Args:
        say: Hears the few lines that a person should read.
        page: Draws the finished run's own page, which is sent too.
    """

    def __init__(
        self,
        where: Target,
        patience: Patience = PATIENT,
        say: Callable[[str], None] | None = None,
        page: Page | None = None,
    ):
        self._where = where
        self._patience = patience
        self._page = page
        self._say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._exit_code = 0
        self._folder: Path | None = None
        self._summary: Mapping[str, Any] | None = None

    def start(self, folder: Path) -> None:
        """Begin with the run of this folder, or continue it."""
        self._folder = folder
        self._thread = threading.Thread(target=self._work, args=(folder,), name="cvx-wandb", daemon=True)
        self._thread.start()

    def log(self, row: Mapping[str, float]) -> None:
        """Hear one row of metrics."""
        self._events.put(lambda upload, row=dict(row): upload.row(row))  # type: ignore[misc]

    def frame(self, kind: str, epoch: int, path: Path) -> None:
        """Hear that a frame was written."""
        self._events.put(lambda upload: upload.frame(kind, path))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Hear the final numbers."""
        self._summary = dict(summary)

    def close(self, exit_code: int = 0) -> None:
        """Wait until W&B has everything, for as long as that makes sense, and say what is to be done if it has not."""
        if self._thread is None:
            return
        self._exit_code = exit_code
        self._events.put(None)
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self._say(f"W&B: not waited for. {self._advice()}")
            raise

    def _work(self, folder: Path) -> None:
        """Send events until the end; whatever goes wrong costs the connection, never the run."""
        try:
            with scratch_folder() as scratch:
                link = self._stream(folder, scratch)
                missing = check(folder, link, self._patience)
                if missing and complete_pictures(folder, link, scratch, self._patience, self._page):
                    missing = check(folder, link, self._patience)
            done = f"all {link.steps} steps are at {link.url}"
            self._say(f"W&B: {missing}. {self._advice()}" if missing else f"W&B: {done}")
        except Exception as error:  # noqa: BLE001 - no failure of W&B may reach training
            self._say(f"W&B: {one_line(error)}. {self._advice()}")

    def _stream(self, folder: Path, scratch: Path) -> Link:
        link = link_for(folder, self._where)
        run = open_run(folder, link, scratch, live=True, patience=self._patience)
        self._say(f"W&B: streaming to {link.url}")
        upload = Upload(folder, run, run.starting_step, scratch)
        with ending(upload, run, link, lambda: self._exit_code):
            artifacts.log_code(run)
            send_samples(upload, run, link, self._patience)
            while (event := self._events.get()) is not None:
                event(upload)
            there = send_artifacts(upload, run, link, self._summary, self._patience, self._page)
        if not there:
            raise OSError("it does not answer any more")
        return link

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
    root = folder.parent.parent
    return "python -m cvx publish" + ("" if str(root) == "artifacts" else f" --artifacts={root}")


@contextlib.contextmanager
def tracked(mode: str, project: str, page: Page | None = None, once: Once | None = None) -> Iterator[list[Sink]]:
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
