"""Check a whole store; change nothing."""

from collections.abc import Iterator
from pathlib import Path

from cvx.store import Store
from cvx.store.layout import WORK
from cvx.store.maintenance import check_models, check_outputs, check_results, check_runs
from cvx.store.maintenance.finding import Finding, entries, is_temporary, leftover, note, problem

FOLDERS = ("models", "samples", "runs", "measures", "sweeps", "attributions", "compare", "reports")
_KNOWN = (*FOLDERS, "README.md", "wandb", f"{WORK}.lock", "starter.json", "starter.json.lock")


def examine(root: Path) -> Iterator[Finding]:
    """Check all that a store holds, part by part; what is found comes as it is found.

    Raises:
        ValueError: If there is no store.
    """
    if not root.is_dir():
        raise ValueError(f"no store {root}; `python -m cvx starter` makes one, --artifacts=DIR names another")
    store = Store(root)
    yield from _top(root)
    yield from check_models.models(store)
    yield from check_models.samples(store)
    yield from check_runs.runs(store)
    yield from check_results.measures(root)
    yield from check_results.sweeps(root)
    yield from check_outputs.outputs(root)


def _top(root: Path) -> Iterator[Finding]:
    """A folder of the first level may be a link: people put runs or models onto another disk."""
    for path in entries(root):
        if is_temporary(path):
            yield leftover(path)
        elif path.name == WORK:
            yield note(path, "holds what a pull had fetched when it was stopped", "pull again: it goes on from there")
        elif path.name in FOLDERS and not path.is_dir():
            yield problem(path, "is no folder", "delete it, or put the folder back")
        elif path.name not in _KNOWN:
            yield note(path, "is nothing that cvx writes", "move it elsewhere if it is not yours to keep here")
