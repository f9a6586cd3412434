"""Find and delete old versions, leftovers and stale results."""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from cvx.store import Store
from cvx.store.layout import StoreLayout
from cvx.store.maintenance.check_results import facts_of
from cvx.store.maintenance.finding import beneath, entries, is_empty_run, is_held, is_idle, is_temporary
from cvx.store.runs import list_runs

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What stays."""

    newest: int = 1
    """Versions of every model, beside best, latest and those that a run names."""
    runs: bool = True
    """Versions that a run's summary names."""
    measures: bool = True
    """Kept results about models that are here."""

    def __post_init__(self) -> None:
        if self.newest < 1:
            raise ValueError(f"keep must be 1 version or more, got {self.newest}")


@dataclass(frozen=True)
class Item:
    """Something that may go."""

    path: Path
    why: str
    num_bytes: int
    lock: Path | None = None
    """Held while it goes; if somebody else holds it, it stays."""
    is_version: bool = False


def plan(root: Path, keep: Keep) -> list[Item]:
    """Find what may go: old versions, leftovers of killed processes, results about models that are gone.

    Raises:
        ValueError: If there is no store, or a run's summary that says which versions it needs is damaged.
    """
    if not root.is_dir():
        raise ValueError(f"no store {root}; --artifacts=DIR names another")
    store = Store(root)
    return [*_versions(store, keep), *_leftovers(root), *_results(store, keep)]


def _versions(store: Store, keep: Keep) -> Iterator[Item]:
    named = _named(store) if keep.runs else set()
    for name in sorted({entry.name for entry in store.models()}):
        for entry in store.versions(name)[: -keep.newest]:
            if not entry.aliases and entry.reference not in named and entry.folder.is_dir():
                lock = entry.folder.parent / ".lock"
                yield Item(entry.folder, "an old version", _size(entry.folder), lock, is_version=True)


def _named(store: Store) -> set[str]:
    summaries = [run.summary or {} for run in list_runs(store.root)]
    return {str(summary[role]) for summary in summaries for role in ("best", "last") if role in summary}


def _leftovers(root: Path) -> Iterator[Item]:
    why = "left half-written by a killed process"
    for parent, names, files in os.walk(root):
        for path in [Path(parent, name) for name in sorted([*names, *files])]:
            if is_temporary(path) and not path.is_symlink() and is_idle(path):
                yield Item(path, why, _size(path))
        names[:] = sorted(name for name in names if not is_temporary(Path(name)))
    for folder in entries(StoreLayout(root).runs_root):
        if not folder.is_symlink() and is_empty_run(folder) and is_idle(folder):
            yield Item(folder, "a run that was killed before it recorded anything", 0)
    for run in list_runs(root):
        if run.done and not is_held(run.folder / ".lock"):
            for path in entries(run.state):
                yield Item(path, "the state of a run that is done", _size(path), run.folder / ".lock")
    for folder in entries(StoreLayout(root).sweeps_root):
        for path in entries(folder / "owners"):
            if not is_held(path) and is_idle(path):
                yield Item(path, "the lock of a process that is gone", _size(path))


def _results(store: Store, keep: Keep) -> Iterator[Item]:
    here = {entry.card.sha256 for entry in store.models() if entry.card}
    for folder in entries(store.measures_root):
        for path in entries(folder):
            if path.suffix == ".npz" and path.is_file() and not is_temporary(path):
                why = _why(path, here)
                if why or not keep.measures:
                    yield Item(path, why or "a kept result; computed anew when asked for", _size(path))


def _why(path: Path, here: set[str]) -> str:
    try:
        facts = facts_of(path)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, nobody can use it
        return "a damaged result; computed anew when asked for"
    about = facts.get("model", facts.get("models", []))
    names = about if isinstance(about, list) else [about]
    digests = {name for name in names if isinstance(name, str) and _DIGEST.fullmatch(name)}
    return "a result about a model that is gone" if digests - here else ""


def _size(path: Path) -> int:
    num_bytes = 0
    for file in [path, *beneath(path)]:
        with contextlib.suppress(FileNotFoundError):
            num_bytes += file.lstat().st_size if file.is_file() else 0
    return num_bytes


def remove(item: Item, keep: Keep, root: Path) -> bool:
    """Remove one thing; False if by now it is needed, or somebody is at work on it."""
    if item.lock is None:
        return _gone(item.path)
    try:
        with FileLock(item.lock, timeout=0):
            if item.is_version and not any(one.path == item.path for one in _versions(Store(root), keep)):
                return False
            return _gone(item.path)
    except Timeout:
        return False


def _gone(path: Path) -> bool:
    """Rename first, so that nobody ever sees half of a folder; that somebody else took it away is just as well."""
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(f".tmp-{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
            shutil.rmtree(aside)
    else:
        path.unlink(missing_ok=True)
    return True
