"""The matrix of the tab Agreement, and the images below it, as HTML."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cvx import comparison
from cvx.attribution import rescale, to_heatmap
from cvx.comparison import AGREEMENT_WORDS, FLOORS, Agreement, Interval
from cvx.comparison.tables import CONDITION_WORDS, FLOOR_WORDS
from cvx.maps.explanation import Explanation
from cvx.plotting import colors
from cvx.plotting.labels import CLIP
from demo.backend.catalog import DatasetEntry
from demo.backend.service import ModelService
from demo.components.markup import notice, picture, text

NUM_SHOWN = 8
SIGNED = ("spearman_signed", "cosine")
READING = (
    "Read a number between its ends. On the diagonal, framed, stands how far the same recipe agrees with itself when"
    " trained from other seeds: two models cannot be expected to agree better. To the right stand the model's maps"
    " against the edges of the image, against noise, and against its own maps of other images: what agrees no better"
    " than that says nothing about this image."
)


def page(
    service: ModelService,
    dataset: DatasetEntry,
    models: Sequence[str],
    pair: Sequence[str],
    measure: str,
    condition: str,
    num: int,
    link: str,
) -> str:
    """Draw the matrix, what it says of two models, and where these differ most; trouble becomes a notice."""
    try:
        references = [dataset.columns[name].reference for name in models]
        agreement = replace(service.agreement(references, num), columns=tuple(models))
    except (ValueError, OSError, RuntimeError) as error:
        return notice("These models cannot be compared", str(error), "error")
    chosen = [models.index(name) for name in pair if name in models]
    i, j = chosen if len(set(chosen)) == 2 else _least_alike(agreement, measure, condition)
    return (
        f'<div class="cvx-agree" data-link="{text(link)}"><header><h2>{text(AGREEMENT_WORDS[measure][0])}</h2>'
        f"<p>{text(AGREEMENT_WORDS[measure][1])}</p></header>"
        f'<div class="cvx-scroll" tabindex="0" role="region" aria-label="matrix of models">'
        f"{_matrix(agreement, models, measure, condition, {i, j})}</div>"
        f'<p class="cvx-small">{text(_about(agreement, condition))} {text(READING)}</p>'
        f"{_pair(service, dataset, agreement, models, (min(i, j), max(i, j)), measure, condition)}</div>"
    )


def _least_alike(agreement: Agreement, measure: str, condition: str) -> tuple[int, int]:
    means = {pair: agreement.interval(measure, *pair, condition).mean for pair in agreement.pairs()}
    known = {pair: mean for pair, mean in means.items() if not np.isnan(mean)}
    return min(known, key=lambda pair: known[pair]) if known else (0, 1)


def _about(agreement: Agreement, condition: str) -> str:
    few = f"{len(agreement.labels)} test samples of {agreement.dataset}, {CONDITION_WORDS[condition]}"
    return f"{few}; vanilla gradient of the true class's logit; mean and 95 % interval over the images."


def _matrix(agreement: Agreement, models: Sequence[str], measure: str, condition: str, chosen: set[int]) -> str:
    floors = "".join(f'<th scope="col" class="cvx-floor">{FLOOR_WORDS[kind]}</th>' for kind in FLOORS)
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in models)
    rows = "".join(_row(agreement, models, i, measure, condition, chosen) for i in range(len(models)))
    return f'<table class="cvx-matrix"><thead><tr><td></td>{head}{floors}</tr></thead><tbody>{rows}</tbody></table>'


def _row(agreement: Agreement, models: Sequence[str], i: int, measure: str, condition: str, chosen: set[int]) -> str:
    cells = []
    for j, name in enumerate(models):
        if i == j:
            seeds = ", ".join(agreement.siblings[i])
            said = f"against the same recipe from other seeds: {seeds}" if seeds else "no other seed in the store"
            cells.append(_cell(agreement.ceiling(measure, i), said, "cvx-ceiling"))
            continue
        interval = agreement.interval(measure, i, j, condition)
        pressed = str({i, j} == chosen).lower()
        said = f"{models[i]} and {name}: {interval.text()}; show where they differ"
        cells.append(
            f'<td style="{_fill(interval)}"><button type="button" data-first="{text(models[i])}"'
            f' data-second="{text(name)}"'
            f' aria-pressed="{pressed}" aria-label="{text(said)}">{_value(interval)}</button></td>'
        )
    for kind in FLOORS:
        cells.append(_cell(agreement.floor(measure, i, kind), f"against {FLOOR_WORDS[kind]}", "cvx-floor"))
    return f'<tr><th scope="row">{text(models[i])}</th>{"".join(cells)}</tr>'


def _cell(interval: Interval | None, said: str, classes: str) -> str:
    body = "–" if interval is None else _value(interval)
    style = "" if interval is None else _fill(interval)
    return f'<td class="{classes}" style="{style}" title="{text(said)}"><div>{body}</div></td>'


def _value(interval: Interval) -> str:
    mean, _, rest = interval.text().partition(" ")
    return f"<b>{mean}</b><small>{rest.strip('[]').replace(', ', ' … ')}</small>"


def _fill(interval: Interval) -> str:
    """Tint a cell by its mean; never so much that the number on it is hard to read."""
    share = 0 if np.isnan(interval.mean) else round(55 * min(1.0, max(0.0, interval.mean)))
    return f"background-color:color-mix(in srgb, var(--accent) {share}%, var(--card))"


def _pair(
    service: ModelService,
    dataset: DatasetEntry,
    agreement: Agreement,
    models: Sequence[str],
    pair: tuple[int, int],
    measure: str,
    condition: str,
) -> str:
    """Say what was found of two models, and show the images on which they differ most."""
    i, j = pair
    first, second = text(models[i]), text(models[j])
    head = f"<header><h2>Where {first} and {second} differ most</h2><p>least alike first; click to compare</p></header>"
    rows = [
        row
        for row in agreement.most_different(i, j, measure, len(agreement.labels))
        if agreement.mask(i, j, condition)[row]
    ]
    if not rows:
        empty = notice("No such image", f"None of these images meets the condition: {CONDITION_WORDS[condition]}.")
        return f'<section class="cvx-differ">{head}{empty}</section>'
    try:
        cards = "".join(_card(service, dataset, agreement, models, pair, measure, int(row)) for row in rows[:NUM_SHOWN])
    except (ValueError, OSError, RuntimeError) as error:
        cards = notice("The maps cannot be shown", str(error), "error")
    return (
        f'<section class="cvx-differ">{head}<p class="cvx-said">{text(agreement.sentence(i, j, measure))}</p>'
        f'<div class="cvx-differ-cards">{cards}</div></section>'
    )


def _card(
    service: ModelService,
    dataset: DatasetEntry,
    agreement: Agreement,
    models: Sequence[str],
    pair: tuple[int, int],
    measure: str,
    row: int,
) -> str:
    query = dataset.sample(row)
    explanations = [service.explain(dataset.columns[models[k]], query, "label", "logit", "gradient") for k in pair]
    signed = measure in SIGNED
    value = comparison.decimal(float(agreement.values[measure][pair[0], pair[1], row]))
    maps = "".join(
        _map(explanation, models[k], signed, query.name) for explanation, k in zip(explanations, pair, strict=True)
    )
    image = picture(colors.gray_or_rgb(explanations[0].images[0]), "")
    said = f"sample {row + 1}, label {query.name}, agreement {value}: compare"
    return (
        f'<button type="button" class="cvx-card" data-of="{text(dataset.name)}" data-row="{row}"'
        f' data-models="{text(json.dumps([models[k] for k in pair]))}" aria-label="{text(said)}">'
        f"<span class='cvx-differ-head'><b>{value}</b><span>sample {row + 1} · {text(query.name)}</span></span>"
        f"<span class='cvx-trio'><span>{image}<small>input</small></span>{maps}</span></button>"
    )


def _map(explanation: Explanation, name: str, signed: bool, label: str) -> str:
    scaled = rescale([to_heatmap(explanation.attribution, "signed" if signed else "max")[0]], "each", CLIP)[0]
    pred = explanation.card.classes[int(explanation.preds[0])]
    verdict = "✓" if pred == label else f"✗ {pred}"
    return (
        f"<span>{picture(colors.colorize(scaled.values, signed), '')}"
        f"<small>{text(name)} {text(verdict)}{' · zero' if scaled.zero else ''}</small></span>"
    )
