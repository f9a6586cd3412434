"""Check that everything a run recorded can be read."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import safe_open

from cvx.files import read_json
from cvx.store import Store
from cvx.store.maintenance.finding import (
    PRUNE,
    Finding,
    check_read,
    entries,
    is_empty_run,
    is_held,
    note,
    one_line,
    problem,
    unexpected_files,
)
from cvx.store.npz import read_arrays
from cvx.store.runs import Run, read_rows
from cvx.store.store import NAME

_FRAME = re.compile(r"\d+\.npz|test\.npz")
_PARTS = ("config.json", "metrics.jsonl", "summary.json", "wandb.json", "film", "embeddings", "state", ".lock", "wandb")
_RESTORE = "restore it from a copy; without it delete the run's folder"


def runs(store: Store) -> Iterator[Finding]:
    """Check every run's folder."""
    root = store.runs_root
    yield from unexpected_files(root, lambda path: path.is_dir() and bool(NAME.fullmatch(path.name)), store.root)
    for folder in entries(root):
        if folder.is_dir() and NAME.fullmatch(folder.name):
            yield from _run(store, folder)


def _run(store: Store, folder: Path) -> Iterator[Finding]:
    yield from unexpected_files(folder, lambda path: path.name in _PARTS, store.root)
    run, done = Run(folder), (folder / "summary.json").exists()
    if is_empty_run(folder):
        yield note(folder, "is empty: its process was killed before it recorded anything", PRUNE)
        return
    if not (folder / "config.json").exists():
        yield problem(folder, "holds no config.json, so nobody can tell what was trained", _RESTORE)
        return
    yield from check_read(folder / "config.json", lambda: run.config["config"]["dataset"], _RESTORE)
    if done or (folder / "metrics.jsonl").exists() or (folder / "state").exists():
        yield from check_read(folder / "metrics.jsonl", lambda: _check_rows(folder), _RESTORE)
    yield from _frames(store, folder)
    yield from _optional(folder / "wandb.json", "delete it; the next `publish` finds the run again")
    if done:
        yield from _ended(store, run)
    elif is_held(folder / ".lock"):
        yield note(folder, "is being trained by a living process", "nothing; ask again when it is through")
    else:
        yield from _unfinished(folder)


def _check_rows(folder: Path) -> None:
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise ValueError("there is no such file")
    rows, before = read_rows(folder), -1.0
    for number, row in enumerate(rows, start=1):
        step = row.get("step") if isinstance(row, dict) else None
        if isinstance(step, bool) or not isinstance(step, int | float) or step < before:
            raise ValueError(f"line {number} has no step, or one before the last ({step!r})")
        before = step
    if (folder / "summary.json").exists() and (not rows or len(rows) < len(path.read_bytes().splitlines())):
        raise ValueError("it was cut short")


def _frames(store: Store, folder: Path) -> Iterator[Finding]:
    for kind in ("film", "embeddings"):
        if (folder / kind).exists() and not (folder / kind).is_dir():
            yield problem(folder / kind, "is no folder", "delete it; the run has no pictures of that kind then")
        yield from unexpected_files(folder / kind, lambda path: bool(_FRAME.fullmatch(path.name)), store.root)
        for path in entries(folder / kind):
            if _FRAME.fullmatch(path.name):
                yield from check_read(
                    path, functools.partial(read_arrays, path), "delete this frame; the others stay usable"
                )


def _optional(path: Path, advice: str) -> Iterator[Finding]:
    if path.exists():
        yield from check_read(path, lambda: read_json(path), advice)


def _ended(store: Store, run: Run) -> Iterator[Finding]:
    yield from check_read(run.folder / "summary.json", lambda: _check_summary(run), _RESTORE)
    if entries(run.state):
        yield note(run.state, "is no longer needed: the run is done", "`python -m cvx prune` clears it")
    yield from _models(store, run)


def _models(store: Store, run: Run) -> Iterator[Finding]:
    try:
        summary = run.summary or {}
    except ValueError:
        return
    for role in ("best", "last"):
        try:
            store.resolve(str(summary[role])) if role in summary else None
        except ValueError as error:
            path = run.folder / "summary.json"
            yield note(path, f"its {role} model is not here: {one_line(error)}", "nothing, if it was pruned")


def _check_summary(run: Run) -> None:
    summary = run.summary
    if summary is None or not isinstance(summary.get("metrics"), dict):
        raise ValueError("it holds no metrics")
    if "key" in summary and summary["key"] != run.config.get("key"):
        raise ValueError("it belongs to another config than config.json holds")
    reached = max((row.get("epoch", 0) for row in run.rows()), default=0)
    if isinstance(epochs := summary.get("epochs"), int) and reached < epochs:
        raise ValueError(f"it is about {epochs} epochs, but metrics.jsonl ends after {reached}")


def _unfinished(folder: Path) -> Iterator[Finding]:
    state = folder / "state" / "state.safetensors"
    if not state.exists():
        yield note(folder, "was stopped before its first epoch was through", "delete the folder: it holds no state")
        return
    yield from check_read(state, lambda: _read_tensors(state), "start the run anew; this one cannot be continued")
    best = state.with_name("best.safetensors")
    yield from check_read(best, lambda: _read_tensors(best), "start the run anew; this one cannot be finished")
    yield note(folder, "was stopped and can go on", f"python -m cvx train --resume={folder.name}")


def _read_tensors(path: Path) -> None:
    with safe_open(path, framework="np") as stored:
        for name in stored.keys():  # noqa: SIM118
            stored.get_slice(name)
