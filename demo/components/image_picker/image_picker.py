"""The strips of sample images to choose from as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from cvx.data.dataset_types import NUM_FILM
from cvx.data.transforms import fit
from cvx.plotting import colors
from cvx.plotting.colors import data_uri
from demo.backend.catalog import DatasetEntry
from demo.components.image_picker import filters
from demo.components.image_picker.filters import Ask, ask_nobody
from demo.components.markup import text
from demo.state.selection import PER_PAGE, WHICH, Choice, Pick

THUMB = 64
"""Larger samples are shrunk to this for the strip."""


def changed(dataset: DatasetEntry, pick: Pick, action: str, value: str, seed: int = 0, ask: Ask = ask_nobody) -> Pick:
    """Return the pick after a visitor's `image`, `filter`, `which`, `page`, `class` or `surprise`."""
    if action == "image" and value.isdecimal():
        return replace(pick, index=int(value))
    if action == "class":
        return replace(pick, target=value)
    if action in ("filter", "which") and (action == "filter" or value in WHICH):
        pick = replace(pick, page=0, shown=value) if action == "filter" else replace(pick, page=0, which=value)
        rows = filters.rows_of(dataset, pick, ask)
        return replace(pick, index=int(rows[0]) if len(rows) else pick.index)
    rows = filters.rows_of(dataset, pick, ask)
    if action == "page":
        return replace(pick, page=(pick.page + (1 if value == "next" else -1)) % max(1, -(-len(rows) // PER_PAGE)))
    if action == "surprise" and len(rows):
        place = int(np.random.default_rng(seed or None).integers(len(rows)))
        return replace(pick, index=int(rows[place]), page=place // PER_PAGE)
    return pick


def film_strip(dataset: DatasetEntry, index: int, num: int = NUM_FILM) -> str:
    """Draw the images whose maps runs keep through training."""
    if dataset.gallery is None:
        return ""
    name, rows = text(dataset.name), np.arange(min(num, len(dataset.gallery)), dtype=np.int64)
    return (
        f'<section class="cvx-strip" data-dataset="{name}" aria-label="images of the film"><header><h2>Image</h2>'
        f"</header>{thumbs(dataset, rows, index)}</section>"
    )


def picker(dataset: Sequence[DatasetEntry], choice: Choice, picks: Mapping[str, Pick], ask: Ask = ask_nobody) -> str:
    """Draw one strip per dataset; `ask` answers what models predict, should a strip offer their errors."""
    return "".join(_strip(one, choice, picks.get(one.name, Pick()), ask) for one in dataset)


def _strip(dataset: DatasetEntry, choice: Choice, pick: Pick, ask: Ask) -> str:
    name, offers_images = text(dataset.name), choice.source == "samples" and dataset.gallery is not None
    target = _target_select(dataset, pick) if choice.target == "class" else ""
    if not offers_images and not target:
        return ""
    strip = tools = ""
    if offers_images:
        rows = filters.rows_of(dataset, pick, ask)
        first = PER_PAGE * (pick.page % max(1, -(-len(rows) // PER_PAGE)))  # a link may name a page that is gone
        strip = thumbs(dataset, rows[first : first + PER_PAGE], pick.index)
        tools, strip = _tools(dataset, pick), strip + _count(dataset, pick, len(rows))
    return (
        f'<section class="cvx-strip" data-dataset="{name}" aria-label="images of {text(dataset.title)}">'
        f"<header><h2>{name}</h2>{tools}</header>{target}{strip}</section>"
    )


def _count(dataset: DatasetEntry, pick: Pick, num: int) -> str:
    """Say of how many samples a strip offers the interesting ones."""
    if not pick.which:
        return ""
    all_of_them = f"{len(dataset.gallery or ()):,}"
    return f'<p class="cvx-small" role="status">{num:,} of {all_of_them} samples, by the models ticked</p>'


def _tools(dataset: DatasetEntry, pick: Pick) -> str:
    select = _select("filter", "show", _classes(dataset, "all classes"), pick.shown)
    which = _select("which", "which samples", WHICH, pick.which)
    buttons = "".join(
        f'<button type="button" data-action="{action}" data-value="{value}" aria-label="{label}" title="{label}">'
        f"{sign}</button>"
        for action, value, label, sign in (
            ("page", "previous", "previous images", "‹"),
            ("page", "next", "next images", "›"),
            ("surprise", "", "surprise me", "⚂"),
        )
    )
    return f'<span class="cvx-tools">{select}{which}{buttons}</span>'


def _classes(dataset: DatasetEntry, none: str) -> dict[str, str]:
    return {"": none, **{name: name for name in dataset.classes}}


def _target_select(dataset: DatasetEntry, pick: Pick) -> str:
    select = _select("class", "class to explain", _classes(dataset, "the label"), pick.target)
    return f'<label class="cvx-explain">explain {select}</label>'


def _select(action: str, label: str, words: Mapping[str, str], chosen: str) -> str:
    options = "".join(
        f'<option value="{text(value)}"{" selected" if value == chosen else ""}>{text(word)}</option>'
        for value, word in words.items()
    )
    return f'<select data-action="{action}" aria-label="{label}" value="{text(chosen)}">{options}</select>'


def thumbs(dataset: DatasetEntry, rows: Int64[np.ndarray, "n"], chosen: int) -> str:
    """Draw a strip of buttons, one per sample, on one picture."""
    stored = dataset.gallery
    assert stored is not None
    if not len(rows):
        return "<p>no such sample</p>"
    buttons = "".join(
        _thumb(place, len(rows), int(row), dataset.classes[int(stored.labels[row])], int(row) == chosen)
        for place, row in enumerate(rows)
    )
    style = f"--sprite:url({sprite_of(dataset, rows)});--count:{len(rows)}"
    return f'<div class="cvx-thumbs" style="{style}">{buttons}</div>'


def _thumb(place: int, count: int, row: int, label: str, chosen: bool) -> str:
    said = f"sample {row + 1}, {label}"
    return (
        f'<button type="button" data-action="image" data-value="{row}" aria-pressed="{str(chosen).lower()}"'
        f' aria-label="{text(said)}" title="{text(said)}"'
        f' style="background-position:{100 * place / max(count - 1, 1):.4f}% 0"></button>'
    )


def sprite_of(dataset: DatasetEntry, rows: Int64[np.ndarray, "n"]) -> str:
    """Put samples side by side, small, in one picture instead of many, and return it as a data URI."""
    stored = dataset.gallery
    assert stored is not None
    small = fit(np.asarray(stored.images[rows]), min(THUMB, stored.images.shape[1]), stored.images.shape[3])
    return data_uri(np.concatenate([colors.gray_or_rgb(image) for image in small], axis=1))
