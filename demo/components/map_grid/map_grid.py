"""The rows of the tab Compare as HTML."""

import base64
from collections.abc import Sequence

import numpy as np

from cvx.attribution import to_heatmap
from cvx.attribution.options import METHOD_WORDS, REDUCTION_WORDS, SCORE_WORDS, unit
from cvx.maps.explanation import Explanation, top_classes
from cvx.plotting import labels
from cvx.plotting.colors import colorize, gray_or_rgb, overlay
from cvx.plotting.labels import percent
from demo.backend.map_rows import Cell, MapRow, beside, largest, norm, runner_up
from demo.components.markup import color_bar, legend, notice, picture, text
from demo.state.selection import Choice

READING = "Point at a pixel, tap it, or use the arrow keys on a map to read it in every model; Escape lets go"
CHOSEN_WORDS = {
    "pred": "predicted",
    "label": "the label",
    "class": "chosen",
    "runner_up": "runner-up",
    "difference": "predicted, less the runner-up",
}
SAVING = {
    "png": "save this row as a picture",
    "npz": "save this row's arrays",
    "csv": "save the numbers under this row's maps",
}
SCALE_WORDS = {"shared": "row's scale", "each": "own scale", "absolute": "fixed scale"}


def grid(map_rows: Sequence[MapRow], choice: Choice, link: str = "", names: Sequence[str] = ()) -> str:
    """Draw every row under one legend.

    Args:
        link: The query string that leads back here.
        names: Under which each row is kept for downloads; without them there are no buttons.
    """
    if not map_rows:
        return notice("Choose a dataset", "Tick one or more datasets, and models to look with.")
    if not choice.models:
        return notice("Choose a model", "Tick one or more models.")
    rows = "".join(
        _row(map_row, choice, name) for map_row, name in zip(map_rows, names or [""] * len(map_rows), strict=True)
    )
    return (
        f'<div class="cvx-grid" data-link="{text(link)}" style="--columns:{len(choice.models)};'
        f'--opacity:{choice.opacity / 100:g}">{_legend(choice)}{rows}</div>'
    )


def _legend(choice: Choice) -> str:
    score, method = SCORE_WORDS[choice.score], METHOD_WORDS[choice.method]
    score += " less the runner-up's" if choice.target == "difference" else ""
    how = f"{method} of the {score}, {REDUCTION_WORDS[choice.reduction]}"
    detail = f"{how[0].upper()}{how[1:]}; numbers in {unit(choice.score, choice.method)}"
    return legend(choice.reduction == "signed", detail, f'<span class="cvx-hint">{READING}</span>')


def _row(map_row: MapRow, choice: Choice, kept: str) -> str:
    label = f" · label <b>{text(map_row.label)}</b>" if map_row.label else ""
    caption = f"<p>{text(map_row.query.caption)}{label}</p>" if map_row.query else ""
    title, number_unit = text(map_row.dataset.title), text(unit(choice.score, choice.method))
    head = f'<h2 title="{title}">{text(map_row.dataset.name)}</h2>{caption}<p class="cvx-read" aria-live="polite"></p>'
    body = "".join(_cell(cell, map_row, choice) for cell in map_row.cells)
    able = sum(cell.explanation is not None for cell in map_row.cells)
    head += _saving(kept, able > 1) if kept and able else ""
    if map_row.error:
        body = notice(map_row.error)
    return (
        f'<section class="cvx-row" aria-label="{title}" data-of="{text(map_row.dataset.name)}"'
        f' data-unit="{number_unit}" data-scale="{choice.scale}"><header>{head}</header>'
        f'<div class="cvx-cells">{body}</div></section>'
    )


def _saving(kept: str, several: bool) -> str:
    buttons = "".join(
        f'<button type="button" data-save="{kind}" title="{title}" aria-label="{title}">{kind.upper()}</button>'
        for kind, title in SAVING.items()
    )
    slider = '<button type="button" data-slide aria-expanded="false" title="two models under one slider">A | B</button>'
    return f'<span class="cvx-tools cvx-save" data-kept="{text(kept)}">{slider * several}{buttons}</span>'


def _cell(cell: Cell, map_row: MapRow, choice: Choice) -> str:
    name = text(cell.column)
    if cell.entry is None:
        why = f"no such model of {map_row.dataset.name}"
        return f'<article class="cvx-cell cvx-absent"><header><h3>{name}</h3></header><p>{text(why)}</p></article>'
    if cell.explanation is None or cell.scaled is None:
        body = notice("This model cannot answer", cell.error, "error")
        return f'<article class="cvx-cell"><header><h3>{name}</h3></header>{body}</article>'
    return (
        f'<article class="cvx-cell" aria-label="{name}"{_values(cell, choice)}>'
        f"<header><h3>{name}</h3>{_facts(cell.explanation)}</header>"
        f'<div class="cvx-quad">{_pictures(cell, choice)}{top5(cell.explanation, map_row.label)}</div>'
        f'<footer><p class="cvx-at"></p>{_numbers(cell, choice)}{_beside(cell, map_row, choice)}</footer></article>'
    )


def _values(cell: Cell, choice: Choice) -> str:
    """Hand the page the map itself, so that a pixel under the pointer is read without a request."""
    assert cell.explanation is not None and cell.scaled is not None
    heat = to_heatmap(cell.explanation.attribution, choice.reduction)[0].astype("<f4")
    data = base64.b64encode(heat.tobytes()).decode("ascii")
    limit = 0.0 if cell.scaled.zero else float(cell.scaled.limit)
    return f' data-values="{data}" data-side="{heat.shape[0]}" data-limit="{limit!r}"'


def _facts(explanation: Explanation) -> str:
    accuracy = explanation.card.metrics.get("test/acc1")
    facts = [f"{explanation.card.num_params / 1e6:.1f} M"]
    facts += [] if explanation.card.role == "best" else [explanation.card.role]
    facts += [] if accuracy is None else [f"test {percent(accuracy)}"]
    title = f"{explanation.reference}, {explanation.card.num_params:,} parameters, {explanation.card.image_size} pixels"
    return f'<span class="cvx-facts" title="{text(title)}">{text(" · ".join(facts))}</span>'


def _pictures(cell: Cell, choice: Choice) -> str:
    explanation, scaled, signed = cell.explanation, cell.scaled, choice.reduction == "signed"
    assert explanation is not None and scaled is not None
    image, size = gray_or_rgb(explanation.images[0]), explanation.images.shape[1]
    target = explanation.card.classes[int(explanation.targets[0])]
    colors = colorize(scaled.values, signed)
    gray = overlay(explanation.images[0], scaled.values, signed, opacity=0)
    said = f"map of {cell.column} for {target}"
    keys = f'tabindex="0" role="group" aria-label="{text(said)}; arrow keys read its pixels"'
    layers = picture(gray, f"{said}, over the image") + picture(colors, "", "cvx-veil")
    bar = color_bar(float(scaled.limit), signed) if not scaled.zero else "zero everywhere"
    return "".join(
        f"<figure>{body}<figcaption>{caption}</figcaption></figure>"
        for body, caption in (
            (f'<div class="cvx-well">{picture(image, f"input of {cell.column}")}</div>', f"input {size} × {size}"),
            (f'<div class="cvx-well" {keys}>{picture(colors, said)}</div>', bar),
            (f'<div class="cvx-over cvx-well">{layers}</div>', "overlay"),
        )
    )


def top5(explanation: Explanation, label: str = "", k: int = 5) -> str:
    """List the most probable classes with bars; the ground truth is marked by a sign, not by color alone."""
    target = explanation.card.classes[int(explanation.targets[0])]
    items = "".join(_bar(name, prob, name == label, name == target) for name, prob in top_classes(explanation, 0, k))
    return f'<ol class="cvx-top" aria-label="most probable classes">{items}</ol>'


def _bar(name: str, prob: float, is_label: bool, is_target: bool) -> str:
    classes = ("cvx-label " if is_label else "") + ("cvx-target" if is_target else "")
    mark = '<abbr title="the label">✓</abbr>' if is_label else ""
    return (
        f'<li class="{classes}"><span class="cvx-name" title="{text(name)}">{mark}{text(name)}</span>'
        f'<span class="cvx-prob">{percent(prob)}</span><i style="width:{max(prob * 100, 0.5):.1f}%"></i></li>'
    )


def _numbers(cell: Cell, choice: Choice) -> str:
    """Write down what was explained, on which scale it is drawn, and how much of it there is."""
    explanation, scaled = cell.explanation, cell.scaled
    assert explanation is not None and scaled is not None
    target = int(explanation.targets[0])
    name, logit = text(explanation.card.classes[target]), f"{explanation.logits[0, target]:.2f}"
    value = f" = {logit}" if explanation.score == "logit" else f", logit {logit}"
    asked = f"{text(SCORE_WORDS[explanation.score])} of <b>{name}</b> ({CHOSEN_WORDS[choice.target]}){value}"
    if choice.target == "difference":
        second = runner_up(explanation)
        value = f"{explanation.logits[0, target] - explanation.logits[0, second]:.2f}"
        other = text(explanation.card.classes[second])
        score = text(SCORE_WORDS[explanation.score])
        asked = f"{score} of <b>{name}</b> less that of <b>{other}</b>, the runner-up = {value}"
    limit = labels.number(float(scaled.limit))
    ends = f"−{limit} … {limit}" if choice.reduction == "signed" else f"0 … {limit}"
    drawn = f"{SCALE_WORDS[choice.scale]} {ends}, {percent(float(scaled.clipped))} of pixels beyond"
    if scaled.zero:
        drawn = "the gradient is zero at every pixel: nothing to draw"
    norms = f"L2 norm {labels.number(norm(explanation))}, largest {labels.number(largest(explanation))}"
    return f"<p>{asked}</p><p>{text(drawn)}</p><p>{text(norms)}</p>"


def _beside(cell: Cell, map_row: MapRow, choice: Choice) -> str:
    """Say how alike the map is to the row's first, and how much of it lies on the mask, where both are known."""
    found, facts = beside(cell, map_row, choice), []
    if found.first:
        facts.append(f"Spearman correlation with {found.first} {_or_dash(found.spearman)}")
    if found.mask_share is not None:
        mass = _or_dash(100 * found.mass_on_mask, 1)
        facts.append(f"mass on the mask {mass} %, by chance {100 * found.mask_share:.1f} %")
    return f"<p>{text('; '.join(facts))}</p>" if facts else ""


def _or_dash(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "–"
