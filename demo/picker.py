"""The strips of sample images to choose from as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from cvx import render
from cvx.comparison import fit
from cvx.data.splits import NUM_FILM
from demo.choice import PER_PAGE, Choice, Pick
from demo.markup import data_uri, text
from demo.shelf import Shown

THUMB = 64
"""Larger samples are shrunk to this for the strip."""


def rows_of(shown: Shown, class_name: str) -> Int64[np.ndarray, "n"]:
    """Return the gallery's rows of one class, or all of them."""
    gallery = shown.gallery
    if gallery is None:
        return np.empty(0, np.int64)
    if class_name not in shown.classes:
        return np.arange(len(gallery), dtype=np.int64)
    return np.flatnonzero(gallery.labels == shown.classes.index(class_name)).astype(np.int64)


def changed(shown: Shown, pick: Pick, action: str, value: str, seed: int = 0) -> Pick:
    """Return the pick after a visitor's `image`, `filter`, `page`, `class` or `surprise`."""
    if action == "image" and value.isdecimal():
        return replace(pick, index=int(value))
    if action == "filter":
        rows = rows_of(shown, value)
        return replace(pick, shown=value, page=0, index=int(rows[0]) if len(rows) else pick.index)
    if action == "page":
        pages = max(1, -(-len(rows_of(shown, pick.shown)) // PER_PAGE))
        return replace(pick, page=(pick.page + (1 if value == "next" else -1)) % pages)
    if action == "class":
        return replace(pick, target=value)
    if action == "surprise" and len(rows := rows_of(shown, pick.shown)):
        place = int(np.random.default_rng(seed or None).integers(len(rows)))
        return replace(pick, index=int(rows[place]), page=place // PER_PAGE)
    return pick


def film_strip(shown: Shown, index: int, num: int = NUM_FILM) -> str:
    """Draw the images whose maps runs keep through training."""
    if shown.gallery is None:
        return ""
    name, rows = text(shown.name), np.arange(min(num, len(shown.gallery)), dtype=np.int64)
    return (
        f'<section class="cvx-strip" data-dataset="{name}" aria-label="images of the film"><header><h2>Image</h2>'
        f"</header>{thumbs(shown, rows, index)}</section>"
    )


def picker(shown: Sequence[Shown], choice: Choice, picks: Mapping[str, Pick]) -> str:
    """Draw one strip per dataset."""
    return "".join(_strip(one, choice, picks.get(one.name, Pick())) for one in shown)


def _strip(shown: Shown, choice: Choice, pick: Pick) -> str:
    name, offers_images = text(shown.name), choice.source == "samples" and shown.gallery is not None
    target = _target_select(shown, pick) if choice.target == "class" else ""
    if not offers_images and not target:
        return ""
    rows = rows_of(shown, pick.shown)[pick.page * PER_PAGE : (pick.page + 1) * PER_PAGE]
    strip = thumbs(shown, rows, pick.index) if offers_images else ""
    tools = _tools(shown, pick) if offers_images else ""
    return (
        f'<section class="cvx-strip" data-dataset="{name}" aria-label="images of {text(shown.title)}">'
        f"<header><h2>{name}</h2>{tools}</header>{target}{strip}</section>"
    )


def _tools(shown: Shown, pick: Pick) -> str:
    select = _select("filter", "show", ["", *shown.classes], pick.shown, "all classes")
    buttons = "".join(
        f'<button type="button" data-action="{action}" data-value="{value}" aria-label="{label}" title="{label}">'
        f"{sign}</button>"
        for action, value, label, sign in (
            ("page", "previous", "previous images", "‹"),
            ("page", "next", "next images", "›"),
            ("surprise", "", "surprise me", "⚂"),
        )
    )
    return f'<span class="cvx-tools">{select}{buttons}</span>'


def _target_select(shown: Shown, pick: Pick) -> str:
    select = _select("class", "class to explain", ["", *shown.classes], pick.target, "the label")
    return f'<label class="cvx-explain">explain {select}</label>'


def _select(action: str, label: str, values: Sequence[str], chosen: str, empty: str) -> str:
    options = "".join(
        f'<option value="{text(value)}"{" selected" if value == chosen else ""}>{text(value or empty)}</option>'
        for value in values
    )
    return f'<select data-action="{action}" aria-label="{label}" value="{text(chosen)}">{options}</select>'


def thumbs(shown: Shown, rows: Int64[np.ndarray, "n"], chosen: int) -> str:
    """Draw a strip of buttons, one per sample, on one picture."""
    gallery = shown.gallery
    assert gallery is not None
    if not len(rows):
        return "<p>no sample of this class</p>"
    buttons = "".join(
        _thumb(place, len(rows), int(row), shown.classes[int(gallery.labels[row])], int(row) == chosen)
        for place, row in enumerate(rows)
    )
    style = f"--sprite:url({sprite_of(shown, rows)});--count:{len(rows)}"
    return f'<div class="cvx-thumbs" style="{style}">{buttons}</div>'


def _thumb(place: int, count: int, row: int, label: str, chosen: bool) -> str:
    said = f"sample {row + 1}, {label}"
    return (
        f'<button type="button" data-action="image" data-value="{row}" aria-pressed="{str(chosen).lower()}"'
        f' aria-label="{text(said)}" title="{text(said)}"'
        f' style="background-position:{100 * place / max(count - 1, 1):.4f}% 0"></button>'
    )


def sprite_of(shown: Shown, rows: Int64[np.ndarray, "n"]) -> str:
    """Put samples side by side, small, in one picture instead of many, and return it as a data URI."""
    gallery = shown.gallery
    assert gallery is not None
    small = fit(np.asarray(gallery.images[rows]), min(THUMB, gallery.images.shape[1]), gallery.images.shape[3])
    return data_uri(np.concatenate([render.gray_or_rgb(image) for image in small], axis=1))
