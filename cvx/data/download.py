"""Download files: resumable, checked, in place only when complete."""

import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from filelock import FileLock
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

CHUNK = 1 << 18
TRIES = 3
"""Connections in a row that may bring nothing new before a download gives up."""


class DownloadError(OSError):
    """A file could not be had; the message names the address, what happened and what to do."""


class _BrokenError(Exception):
    """The connection broke; another may go on."""


def readable_size(num_bytes: int) -> str:
    """Write a number of bytes as people say it, in powers of 1000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.3g} {unit}"
    return f"{num_bytes} bytes"


def unavailable(name: str, root: Path, reason: str, ways: Sequence[str]) -> FileNotFoundError:
    """Make the one error that says why a dataset is not there and every way to get it."""
    lines = [
        f"{name} is not in {root.absolute()} and could not be fetched: {reason}",
        "Any of these gives it:",
    ]
    return FileNotFoundError("\n  * ".join(["\n".join(lines), *ways]))


def check_zip(path: Path) -> None:
    """Read every member of a zip and compare its checksum.

    Raises:
        DownloadError: If the file is no zip, or a member is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise DownloadError(f"{path.name} is no whole zip file ({error})") from None
    if damaged:
        raise DownloadError(f"{path.name} is damaged: the checksum of {damaged} is wrong")


def download(
    url: str,
    path: Path,
    *,
    size: int = 0,
    verify: Callable[[Path], None] | None = None,
    timeout_s: float = 10.0,
) -> None:
    """Fetch a file unless it is there, with a line that says from where, how much and to where.

    The bytes gather in `<path>.part`, which a later call goes on with; the file gets its name when its size
    is right and `verify` has let it pass. What fails that check is deleted. Two processes that want the same
    file fetch it once.

    Args:
        size: Exact number of bytes; 0 where it is not known.
        verify: Raises DownloadError for a file that is not what it should be.
        timeout_s: Seconds without an answer or a byte after which a connection counts as broken.

    Raises:
        DownloadError: If the server cannot be reached, keeps breaking off, or offers something else.
        OSError: If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as progress:
            _fetch(_Transfer(url, path, part, size, timeout_s, progress))
        _check(part, size, verify)
        part.replace(path)


def _check(part: Path, size: int, verify: Callable[[Path], None] | None) -> None:
    try:
        if size and part.stat().st_size != size:
            raise DownloadError(f"{part.name} has {part.stat().st_size} bytes, expected {size}")
        if verify:
            verify(part)
    except DownloadError as error:
        part.unlink()
        raise DownloadError(f"{error}; it was deleted, run the command again to fetch it anew") from None


def _fetch(transfer: "_Transfer") -> None:
    failures, furthest = 0, transfer.have
    while True:
        try:
            transfer.run()
            return
        except _BrokenError as error:
            failures = 0 if transfer.have > furthest else failures + 1
            furthest = max(furthest, transfer.have)
            if failures >= TRIES or not transfer.connected:
                raise DownloadError(transfer.explain(error)) from None
            time.sleep(0.2 * 2**failures)


class _Transfer:
    """One download, over as many connections as it takes."""

    def __init__(self, url: str, path: Path, part: Path, size: int, timeout_s: float, progress: Progress) -> None:
        self.url, self.path, self.part, self.size, self.timeout_s = url, path, part, size, timeout_s
        self.progress = progress
        self.task: TaskID | None = None
        self.connected = False

    @property
    def have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def run(self) -> None:
        """Fetch what is missing over one connection."""
        if self.size and self.have > self.size:
            self.part.unlink()
        if self.size and self.have == self.size:
            return
        with closing(self._connect()) as response:
            start = self._start(response)
            total = start + int(response.headers.get("Content-Length") or 0)
            if self.size and total not in (self.size, start):
                raise DownloadError(f"{self.url} offers {total} bytes, expected {self.size}: not the same file")
            self._announce(start, total)
            self._write(response, start)
        if self.have < total:
            raise _BrokenError("the connection broke off")

    def explain(self, error: Exception) -> str:
        """Say what happened, and what stays."""
        kept = f"; {readable_size(self.have)} are kept in {self.part}, and the next run goes on from there"
        return f"{self.url}: {error}{kept if self.have else ''}"

    def _connect(self) -> HTTPResponse:
        headers = {"User-Agent": "cvx", "Accept-Encoding": "identity"}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
        request = urllib.request.Request(self.url, headers=headers)
        try:
            response: HTTPResponse = urllib.request.urlopen(request, timeout=self.timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            self.connected = True
            if error.code == 416 and self.have:
                self.part.unlink()
                raise _BrokenError("the server's file is shorter than what is here") from None
            raise DownloadError(f"{self.url}: the server answers {error.code} {error.reason}") from None
        except (OSError, HTTPException) as error:
            raise _BrokenError(f"no connection ({getattr(error, 'reason', error)})") from None
        self.connected = True
        return response

    def _start(self, response: HTTPResponse) -> int:
        """Return the byte the answer starts from: 0 where the server ignores Range."""
        if response.status != 206:
            return 0
        if not (response.headers.get("Content-Range") or "").startswith(f"bytes {self.have}-"):
            self.part.unlink()
            raise _BrokenError("the server sent another range than the one asked for")
        return self.have

    def _announce(self, start: int, total: int) -> None:
        if self.task is None:
            much = readable_size(total) if total > start else "size unknown"
            there = f", {readable_size(start)} of it already here" if start else ""
            print(f"downloading {self.url} ({much}{there}) to {self.path.absolute()}", file=sys.stderr)
            free = shutil.disk_usage(self.path.parent).free
            if total - start > free:
                need = f"{self.url} needs {readable_size(total - start)}"
                raise DownloadError(f"{need}, but {self.path.parent} has {readable_size(free)} free")
            self.task = self.progress.add_task(self.path.name, total=total or None)
        self.progress.update(self.task, completed=start)

    def _write(self, response: HTTPResponse, start: int) -> None:
        with self.part.open("ab" if start else "wb") as file:
            for chunk in _chunks(response):
                file.write(chunk)
                if self.task is not None:
                    self.progress.advance(self.task, len(chunk))


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    """Yield what comes; only the network's own errors count as a broken connection, a full disk does not."""
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, HTTPException) as error:
            raise _BrokenError(f"the connection broke off ({error})") from None
        if not chunk:
            return
        yield chunk
