"""Names of files and folders made from names of datasets, models and classes."""

import re
from collections.abc import Sequence
from pathlib import Path


def slug(name: str) -> str:
    """Turn a dataset's or model's name into letters, digits, `_ . -`: `folder:~/my birds` into `folder-my-birds`."""
    kind, colon, rest = name.partition(":")
    if kind == "folder" and colon:
        rest = Path(rest).name or "root"
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{kind}-{rest}" if colon else name).strip("-.").lower() or "unnamed"


def file_stems(classes: Sequence[str]) -> list[str]:
    """Turn class names into file names that every file system takes and no two classes share."""
    stems: list[str] = []
    taken: set[str] = set()
    for i, name in enumerate(classes):
        stem = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "class"
        while stem.casefold() in taken:
            stem = f"{stem}-{i}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems
