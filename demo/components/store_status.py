"""The line above the tabs: counts of models and datasets, and errors of broken ones."""

from demo.backend.catalog import Catalog
from demo.components.markup import text


def status(catalog: Catalog) -> str:
    """Count models and datasets."""
    models = sum(len(dataset.columns) for dataset in catalog.datasets.values())
    if not models:
        return '<p class="cvx-status">empty store</p>'
    counts = f"{_count(models, 'model')} · {_count(len(catalog.datasets), 'dataset')}"
    return f'<p class="cvx-status" role="status">{counts}</p>'


def trouble(catalog: Catalog) -> str:
    """Name what is broken, with its error; the rest of the page works without it."""
    if not catalog.broken:
        return ""
    items = "".join(f"<li><b>{text(entry.reference)}</b> {text(entry.error)}</li>" for entry in catalog.broken)
    verb = "is" if len(catalog.broken) == 1 else "are"
    title = f"{_count(len(catalog.broken), 'stored model')} {verb} broken"
    return (
        f'<details class="cvx-notice cvx-error"><summary>{title}; the others work</summary><ul>{items}</ul></details>'
    )


def _count(num: int, noun: str) -> str:
    return f"{num} {noun}" if num == 1 else f"{num} {noun}s"
