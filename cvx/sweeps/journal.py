"""The file that Optuna keeps a sweep's trials in, which never ends in half a line for long."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock


def open_journal(folder: Path) -> JournalStorage:
    """Open a sweep's storage, or make it."""
    return JournalStorage(_WholeLines(folder / "trials.journal"))


class _WholeLines(JournalFileBackend):
    """A journal that takes away what a killed process or a full disk left of a line: nobody could read on behind it."""

    def __init__(self, path: Path) -> None:
        # links, Optuna's own choice, need a privilege on Windows
        self._mine = JournalFileOpenLock(str(path)) if os.name == "nt" else JournalFileSymlinkLock(str(path))
        self._path = path
        super().__init__(str(path), lock_obj=self._mine)
        self._mend()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError:
            self._mend()
            raise

    def _mend(self) -> None:
        if _is_whole(self._path):
            return
        with self._alone():
            if not _is_whole(self._path):
                os.truncate(self._path, self._path.read_bytes().rfind(b"\n") + 1)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until nobody writes: what looks like half a line may be one that is being written."""
        self._mine.acquire()
        try:
            yield
        finally:
            self._mine.release()


def _is_whole(path: Path) -> bool:
    with path.open("rb") as stream:
        if not (size := stream.seek(0, os.SEEK_END)):
            return True
        stream.seek(size - 1)
        return stream.read() == b"\n"
