"""The rows of the tab Compare as HTML."""

from collections.abc import Sequence

import numpy as np

from cvx import render
from cvx.attribution import to_heatmap
from cvx.attribution.agreement import spearman, traits
from cvx.comparison import View, fit, top_classes
from cvx.figures import METHOD_WORDS, REDUCTION_WORDS, SCORE_WORDS, percent, unit
from demo.choice import Choice
from demo.looking import Cell, Line
from demo.markup import color_bar, gradient, notice, picture, text

SCALE_WORDS = {"shared": "row's scale", "each": "own scale", "absolute": "fixed scale"}


def grid(lines: Sequence[Line], choice: Choice, link: str = "") -> str:
    """Draw every row under one legend; `link` is the query string that leads back here."""
    if not lines:
        return notice("Choose a dataset", "Tick one or more datasets, and models to look with.")
    if not choice.models:
        return notice("Choose a model", "Tick one or more models.")
    rows = "".join(_row(line, choice) for line in lines)
    return (
        f'<div class="cvx-grid" data-link="{text(link)}" style="--columns:{len(choice.models)};'
        f'--opacity:{choice.opacity / 100:g}">{legend(choice)}{rows}</div>'
    )


def legend(choice: Choice) -> str:
    """Say what the colors mean, in which unit."""
    signed = choice.reduction == "signed"
    score, method = SCORE_WORDS[choice.score], METHOD_WORDS[choice.method]
    ends = ("lowers the score", "raises it") if signed else ("no influence", "strong influence")
    how = f"{method} of the {score}, {REDUCTION_WORDS[choice.reduction]}"
    detail = f"{how[0].upper()}{how[1:]}; numbers in {unit(choice.score, choice.method)}"
    return (
        '<div class="cvx-legend" role="note"><span class="cvx-bar">'
        f'<span>{ends[0]}</span><i style="background:{gradient(signed)}"></i><span>{ends[1]}</span></span>'
        f"<span>{text(detail)}</span></div>"
    )


def _row(line: Line, choice: Choice) -> str:
    label = f" · label <b>{text(line.label)}</b>" if line.label else ""
    caption = f"<p>{text(line.subject.caption)}{label}</p>" if line.subject else ""
    title = text(line.shown.title)
    body = "".join(_cell(cell, line, choice) for cell in line.cells)
    if line.error:
        body = notice(line.error)
    return (
        f'<section class="cvx-row" aria-label="{title}"><header><h2 title="{title}">{text(line.shown.name)}</h2>'
        f'{caption}</header><div class="cvx-cells">{body}</div></section>'
    )


def _cell(cell: Cell, line: Line, choice: Choice) -> str:
    name = text(cell.column)
    if cell.entry is None:
        why = f"no such model of {line.shown.name}"
        return f'<article class="cvx-cell cvx-absent"><header><h3>{name}</h3></header><p>{text(why)}</p></article>'
    if cell.view is None or cell.scaled is None:
        body = notice("This model cannot answer", cell.error, "error")
        return f'<article class="cvx-cell"><header><h3>{name}</h3></header>{body}</article>'
    return (
        f'<article class="cvx-cell" aria-label="{name}"><header><h3>{name}</h3>{_facts(cell.view)}</header>'
        f'<div class="cvx-quad">{_pictures(cell, choice)}{top5(cell.view, line.label)}</div>'
        f"<footer>{_numbers(cell, choice)}{_beside(cell, line, choice)}</footer></article>"
    )


def _facts(view: View) -> str:
    accuracy = view.card.metrics.get("test/acc1")
    facts = [f"{view.card.num_params / 1e6:.1f} M"]
    facts += [] if view.card.role == "best" else [view.card.role]
    facts += [] if accuracy is None else [f"test {percent(accuracy)}"]
    title = f"{view.reference}, {view.card.num_params:,} parameters, {view.card.image_size} pixels"
    return f'<span class="cvx-facts" title="{text(title)}">{text(" · ".join(facts))}</span>'


def _pictures(cell: Cell, choice: Choice) -> str:
    view, scaled, signed = cell.view, cell.scaled, choice.reduction == "signed"
    assert view is not None and scaled is not None
    image, size = render.gray_or_rgb(view.images[0]), view.card.image_size
    target = view.card.classes[int(view.targets[0])]
    colors = render.colorize(scaled.values, signed)
    gray = render.overlay(view.images[0], scaled.values, signed, opacity=0)
    said = f"map of {cell.column} for {target}"
    over = f'<div class="cvx-over">{picture(gray, f"{said}, over the image")}{picture(colors, "", "cvx-veil")}</div>'
    bar = color_bar(float(scaled.limit), signed) if not scaled.zero else "zero everywhere"
    return "".join(
        f"<figure>{body}<figcaption>{caption}</figcaption></figure>"
        for body, caption in (
            (picture(image, f"input of {cell.column}"), f"input {size} × {size}"),
            (picture(colors, said), bar),
            (over, "overlay"),
        )
    )


def top5(view: View, label: str = "", k: int = 5) -> str:
    """List the most probable classes with bars; the ground truth is marked by a sign, not by color alone."""
    target = view.card.classes[int(view.targets[0])]
    items = "".join(_bar(name, prob, name == label, name == target) for name, prob in top_classes(view, 0, k))
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
    view, scaled = cell.view, cell.scaled
    assert view is not None and scaled is not None
    target = int(view.targets[0])
    why = {"pred": "predicted", "label": "the label", "class": "chosen"}[choice.target]
    name, logit = text(view.card.classes[target]), f"{view.logits[0, target]:.2f}"
    value = f" = {logit}" if view.score == "logit" else f", logit {logit}"
    asked = f"{text(SCORE_WORDS[view.score])} of <b>{name}</b> ({why}){value}"
    limit = render.number(float(scaled.limit))
    ends = f"−{limit} … {limit}" if choice.reduction == "signed" else f"0 … {limit}"
    drawn = f"{SCALE_WORDS[choice.scale]} {ends}, {percent(float(scaled.clipped))} of pixels beyond"
    if scaled.zero:
        drawn = "the gradient is zero at every pixel: nothing to draw"
    largest = float(np.abs(view.attribution[0]).max())
    norms = f"L2 norm {render.number(_norm(view))}, largest {render.number(largest)}"
    return f"<p>{asked}</p><p>{text(drawn)}</p><p>{text(norms)}</p>"


def _beside(cell: Cell, line: Line, choice: Choice) -> str:
    """Say how alike the map is to the row's first, and how much of it lies on the mask, where both are known."""
    facts, view = [], cell.view
    first = next((one for one in line.cells if one.view is not None), cell)
    assert view is not None and first.view is not None
    if first is not cell and first.view.attribution.shape == view.attribution.shape:
        alike = float(spearman(traits(first.view.attribution), traits(view.attribution))[0])
        facts.append(f"Spearman correlation with {first.column} {_or_dash(alike)}")
    if line.subject is not None and line.subject.mask is not None:
        mask = fit(line.subject.mask[None, ..., None].astype(np.uint8) * 255, view.card.image_size, 1)[..., 0] > 127
        heat = np.abs(to_heatmap(view.attribution, choice.reduction)[0]).astype(np.float64)
        share = float(heat[mask[0]].sum() / heat.sum()) if heat.any() else float("nan")
        facts.append(f"mass on the mask {_or_dash(100 * share, 1)} %, by chance {100 * mask.mean():.1f} %")
    return f"<p>{text('; '.join(facts))}</p>" if facts else ""


def _or_dash(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "–"


def _norm(view: View) -> float:
    return float(np.linalg.norm(view.attribution[0].astype(np.float64)))
