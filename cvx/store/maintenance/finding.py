"""Findings of a check, and the questions that all checks ask of files."""

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cvx.files import one_line

Level = Literal["problem", "note"]
PRUNE = "`python -m cvx prune` shows it, with --yes it goes"
IDLE_S = 3600.0
"""Seconds without a change after which what carries a temporary name has nobody who writes it."""
_TEMPORARY = re.compile(r"\.tmp-\w+|\..+\.\w+\.tmp(\.\w+)?")


@dataclass(frozen=True)
class Finding:
    """Something about a store that its owner should know."""

    level: Level
    """A problem is something that cannot be used or trusted; a note is harmless."""
    where: Path
    what: str
    advice: str


def problem(where: Path, what: str, advice: str) -> Finding:
    """Report what cannot be used or trusted."""
    return Finding("problem", where, what, advice)


def note(where: Path, what: str, advice: str) -> Finding:
    """Report what is harmless."""
    return Finding("note", where, what, advice)


def entries(folder: Path) -> list[Path]:
    """List a folder by name; one that is missing, or goes as it is looked at, is empty."""
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except FileNotFoundError:
        return []


def beneath(folder: Path) -> Iterator[Path]:
    """Walk all that lies under a folder by name; what others take away meanwhile is left out."""
    for parent, names, files in os.walk(folder):
        names.sort()
        yield from (Path(parent, name) for name in sorted([*names, *files]))


def is_temporary(path: Path) -> bool:
    """Tell a name that `files` gives to what is not yet whole."""
    return bool(_TEMPORARY.fullmatch(path.name))


def is_empty_run(run: Path) -> bool:
    """Tell a run's folder in which nothing was recorded yet."""
    return run.is_dir() and all(is_temporary(path) or path.name == ".lock" for path in entries(run))


def is_idle(path: Path, now: float | None = None) -> bool:
    """Say whether nothing at or under a path has changed for an hour."""
    try:
        changed = max(one.lstat().st_mtime for one in [path, *beneath(path)])
    except FileNotFoundError:  # somebody has just taken it away
        return False
    return (time.time() if now is None else now) - changed > IDLE_S


def is_held(lock: Path) -> bool:
    """Say whether a living process holds a lock; the file is only read, and where locks cannot be asked none is."""
    if os.name == "nt" or not lock.is_file():
        return False
    import fcntl

    try:
        stream = lock.open("rb")
    except FileNotFoundError:
        return False
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(stream, fcntl.LOCK_UN)
    return False


def unexpected_files(folder: Path, known: Callable[[Path], bool], root: Path) -> Iterator[Finding]:
    """Report what has no place in a folder: leftovers of killed writers, links that lead out, names nobody knows."""
    for path in entries(folder):
        if path.is_symlink() and not _within(path, root):
            yield problem(path, f"is a link that leads out of the store, to {path.readlink()}", _UNLINK)
        elif is_temporary(path):
            yield leftover(path)
        elif path.name == ".lock" and not path.is_file():
            yield problem(path, "is no file, so nobody can take the lock", "delete it; it is made anew when needed")
        elif not known(path):
            yield note(path, "is nothing that cvx writes", "move it elsewhere if it is not yours to keep here")


_UNLINK = "put a copy of what it leads to in its place, or delete the link"


def _within(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


def leftover(path: Path) -> Finding:
    """Report what a killed writer left, or a living one has not finished."""
    if is_idle(path):
        return note(path, "was left half-written by a process that was killed", PRUNE)
    return note(path, "is being written, or was left by a process killed within the hour", f"wait; later {PRUNE}")


def check_read(where: Path, read: Callable[[], object], advice: str, what: str = "cannot be read") -> Iterator[Finding]:
    """Report a problem where reading fails, however it does."""
    try:
        read()
    except Exception as error:  # noqa: BLE001 - damage has no fixed kind of error, and the next file is to be checked
        yield problem(where, f"{what}: {one_line(error)}", advice)
