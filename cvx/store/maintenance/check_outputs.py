"""Check written outputs: figures, maps, tables, reports. No model needs any of them."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from cvx.files import read_json
from cvx.store.maintenance.finding import Finding, beneath, check_read, entries, is_temporary, leftover, problem
from cvx.store.npz import read_arrays

_ANEW = {
    "attributions": "`python -m cvx attribute` draws it anew",
    "compare": "`python -m cvx compare` writes it anew",
    "reports": "`python -m cvx report` writes it anew",
}


def outputs(root: Path) -> Iterator[Finding]:
    """Check every written file of a kind that can be checked, and look for links and leftovers beside them."""
    for name, advice in _ANEW.items():
        for path in beneath(root / name):
            if not any(is_temporary(parent) for parent in path.relative_to(root).parents):  # its writer may be alive
                yield from one(path, advice)


def one(path: Path, advice: str) -> Iterator[Finding]:
    """Check one written file by its ending."""
    if path.is_symlink():
        yield problem(path, "is a link", f"delete it; {advice}")
    elif is_temporary(path):
        yield leftover(path)
    elif check := _CHECKS.get(path.suffix):
        yield from check_read(path, lambda: check(path), advice)


def drawn(folder: Path, advice: str) -> Iterator[Finding]:
    """Check the pictures that lie in a folder beside other things."""
    for path in entries(folder):
        if path.suffix == ".png" and not path.is_symlink():
            yield from one(path, advice)


def _check_png(path: Path) -> None:
    with Image.open(path, formats=["PNG"]) as picture:
        picture.load()


def _text(path: Path) -> str:
    text = path.read_bytes().decode("utf-8")
    if not text.endswith("\n"):
        raise ValueError("it was cut short")
    return text


def _check_table(path: Path) -> None:
    rows = list(csv.reader(io.StringIO(_text(path), newline="")))
    if {len(row) for row in rows} != {len(rows[0])}:
        raise ValueError("its rows do not have as many cells as its head")


def _framed(start: str, end: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        text = path.read_bytes().decode("utf-8").strip()
        if not (text.lower().startswith(start) and text.endswith(end)):
            raise ValueError(f"it does not go from {start} to {end}")

    return check


_CHECKS: dict[str, Callable[[Path], object]] = {
    ".png": _check_png,
    ".npz": read_arrays,
    ".json": read_json,
    ".csv": _check_table,
    ".md": _text,
    ".tex": _framed(r"\begin{tabular}", r"\end{tabular}"),
    ".html": _framed("<!doctype html>", "</html>"),
}
"""By ending. What is text has no checksum: one that was cut short or overwritten is seen, a changed digit is not."""
