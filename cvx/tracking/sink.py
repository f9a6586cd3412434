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
from cvx.tracking.account import PATIENT, Patience, Target, one_line, reason_not_online, target
from cvx.tracking.connection import link_for, open_run, scratch_folder
from cvx.tracking.ending import check, send_artifacts, send_samples
from cvx.tracking.upload import Upload

Event = Callable[[Upload], None]


class WandbSink:
    """Streams a run to W&B, and never keeps the loop waiting.

    What the loop says is put into a queue of small things: rows, and paths of files that are written already. The
    thread that empties it may be slow, or get nowhere at all; then `publish` sends what is missing.

    Args:
        say: Hears the few lines that a person should read.
    """

    def __init__(self, where: Target, patience: Patience = PATIENT, say: Callable[[str], None] | None = None):
        self._where = where
        self._patience = patience
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
                self._stream(folder, scratch)
        except Exception as error:  # noqa: BLE001 - no failure of W&B may reach training
            self._say(f"W&B: {one_line(error)}. {self._advice()}")

    def _stream(self, folder: Path, scratch: Path) -> None:
        link = link_for(folder, self._where)
        run = open_run(folder, link, scratch, live=True, patience=self._patience)
        self._say(f"W&B: streaming to {link.url}")
        upload = Upload(folder, run, run.starting_step, scratch)
        try:
            send_samples(upload, run, link, self._patience)
            while (event := self._events.get()) is not None:
                event(upload)
            send_artifacts(upload, run, link, self._summary, self._patience)
        finally:
            upload.flush()
            run.finish(exit_code=self._exit_code)
            link.save(folder)
        missing = check(folder, link, self._patience)
        self._say(f"W&B: {missing}. {self._advice()}" if missing else f"W&B: all {link.steps} steps are at {link.url}")

    def _advice(self) -> str:
        return f"Everything is recorded locally; to send what is missing: {publish_command(self._folder)}"


class LocalSink:
    """Says once, when a run begins, that it is recorded locally, and how to send it later."""

    def __init__(self, reason: str):
        self._reason = reason

    def start(self, folder: Path) -> None:
        """Say it."""
        print(
            f"recording locally ({self._reason}); to send it to W&B later: {publish_command(folder)}", file=sys.stderr
        )

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
    root = folder.parent.parent
    flag = "" if str(root) == "artifacts" else f" --artifacts={root}"
    return f"python -m cvx publish {folder.name}{flag}"


@contextlib.contextmanager
def tracked(mode: str, project: str) -> Iterator[list[Sink]]:
    """Give the sinks of a run: one that streams to W&B where there is an account, one that says so where there is not.

    Args:
        mode: `auto`, `on` or `off`.
        project: `[ENTITY/]PROJECT`, or nothing for WANDB_PROJECT or `cvx`.

    Raises:
        ValueError: If the project's name is wrong, or W&B is insisted on and there is no account.
    """
    where = target(project)
    if os.environ.get("RANK", "0") != "0":  # one process of a torchrun job speaks for all
        yield []
        return
    if reason := reason_not_online(mode):
        yield [] if mode == "off" else [LocalSink(reason)]
        return
    sink = WandbSink(where)
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
