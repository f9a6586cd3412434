"""Check stored comparison results and sweeps."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

from cvx.files import read_json
from cvx.store.layout import StoreLayout
from cvx.store.maintenance.check_outputs import drawn
from cvx.store.maintenance.finding import (
    PRUNE,
    Finding,
    check_read,
    entries,
    is_held,
    is_temporary,
    note,
    unexpected_files,
)
from cvx.store.npz import read_arrays

_SWEEP = ("sweep.json", "trials.journal", "result.json", "owners", "logs", "args", ".lock", "trials.journal.lock")
_ANEW = "delete it; it is computed anew when asked for"


def measures(root: Path) -> Iterator[Finding]:
    """Check every kept result of `compare`."""
    for folder in entries(StoreLayout(root).measures_root):
        yield from unexpected_files(folder, lambda path: path.suffix == ".npz", root)
        for path in entries(folder):
            if path.suffix == ".npz" and not is_temporary(path):
                yield from check_read(path, lambda path=path: facts_of(path), _ANEW)  # type: ignore[misc]


def facts_of(path: Path) -> dict[str, object]:
    """Return what a kept result is about.

    Raises:
        ValueError: If the file is damaged.
    """
    facts = json.loads(str(read_arrays(path)["facts"]))
    if not isinstance(facts, dict):
        raise ValueError("it does not say what it is about")
    return facts


def sweeps(root: Path) -> Iterator[Finding]:
    """Check every sweep's ledger."""
    for folder in entries(StoreLayout(root).sweeps_root):
        yield from unexpected_files(folder, lambda path: path.name in _SWEEP or path.suffix == ".png", root)
        lost = "restore it from a copy, or start the sweep anew under another --name; its runs stay"
        for path in (folder / "sweep.json", folder / "result.json"):
            if path.exists():
                yield from check_read(path, functools.partial(read_json, path), lost)
        yield from drawn(folder, "the sweep's next `--resume` draws it anew")
        for path in [path for path in entries(folder / "args") if not is_temporary(path)]:
            yield from check_read(path, functools.partial(_parse, path), "nothing: its trial has read it")
        for part in ("args", "logs"):
            yield from unexpected_files(folder / part, lambda path: path.suffix in (".json", ".log", ".pid"), root)
        if _has_begun(folder):
            yield from check_read(folder / "trials.journal", lambda folder=folder: _check_journal(folder), lost)  # type: ignore[misc]
        for path in entries(folder / "owners"):
            if not is_held(path):
                yield note(path, "belongs to a process that is gone", PRUNE)


def _has_begun(folder: Path) -> bool:
    """Tell a sweep from one that was killed, or met a full disk, before anything was written down of a trial."""
    journal = folder / "trials.journal"
    written = journal.exists() and (not journal.is_file() or journal.stat().st_size > 0)
    return written or (folder / "logs").exists() or (folder / "result.json").exists()


def _check_journal(folder: Path) -> None:
    path = folder / "trials.journal"
    lines = path.read_text("utf-8").splitlines()
    if not lines:
        raise ValueError("it is empty")
    for number, line in enumerate(lines, start=1):
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            raise ValueError(f"line {number} of {len(lines)} is no JSON") from None
        if not isinstance(content, dict):
            raise ValueError(f"line {number} is no record of a trial")


def _parse(path: Path) -> object:
    return json.loads(path.read_bytes())
