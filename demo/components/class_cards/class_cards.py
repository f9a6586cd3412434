"""The cards of the tab Class view as HTML."""

from collections.abc import Mapping, Sequence

import numpy as np

from cvx.attribution import rescale
from cvx.attribution.options import METHOD_WORDS, REDUCTION_WORDS, SCORE_WORDS
from cvx.maps.class_summary import ClassSummary
from cvx.plotting.colors import colorize, gray_or_rgb
from cvx.plotting.labels import CLIP, percent
from demo.backend.catalog import DatasetEntry
from demo.backend.service import ModelService
from demo.components.markup import color_bar, legend, notice, picture, text

ALIGNED = (
    "The mean map averages the maps of all these images, each divided by its sum, so that every image counts alike."
    " It assumes that the objects lie in the same place of every image; where they do not, it shows where they lie"
    " rather than which part of them counts. Center bias is the mean distance of a map's weight from the image center"
    " over that of a map that is the same everywhere: 1 is none, below 1 the model looks at the center."
)


def cards(
    service: ModelService,
    dataset: DatasetEntry,
    class_name: str,
    models: Sequence[str],
    num: int,
    reduction: str,
    score: str,
    method: str,
    link: str = "",
) -> str:
    """Draw a card per model, the mean maps on one scale; a model that cannot answer says why in its own."""
    samples = dataset.samples
    if samples is None:
        return notice("No samples to look at", dataset.trouble)
    summaries: dict[str, ClassSummary | str] = {}
    for name, entry in ((name, dataset.columns[name]) for name in models if name in dataset.columns):
        try:
            summaries[name] = service.summarize_class(entry, samples, class_name, num, reduction, score, method)
        except (ValueError, OSError, RuntimeError) as error:
            summaries[name] = str(error)
    return (
        f'<div class="cvx-classes" data-link="{text(link)}"><header>'
        f"<h2>{text(class_name)}</h2><p>{text(dataset.name)}</p></header>"
        f"{_legend(score, method, reduction)}"
        f'<div class="cvx-cards" style="--columns:{len(summaries)}">{_cards(summaries)}</div>'
        f"<p class='cvx-small'>{text(ALIGNED)}</p></div>"
    )


def _legend(score: str, method: str, reduction: str) -> str:
    detail = (
        f"{METHOD_WORDS[method]} of the {SCORE_WORDS[score]} of the class, {REDUCTION_WORDS[reduction]}."
        " Exemplars are the first of the class in stored order, each map on its own scale."
    )
    return legend(reduction == "signed", detail[0].upper() + detail[1:])


def _cards(summaries: Mapping[str, ClassSummary | str]) -> str:
    limit = max((_peak(summary) for summary in summaries.values() if isinstance(summary, ClassSummary)), default=0.0)
    return "".join(_card(name, summary, limit) for name, summary in summaries.items())


def _peak(summary: ClassSummary) -> float:
    return float(np.abs(summary.mean_map).max()) * summary.mean_map.size


def _card(name: str, summary: ClassSummary | str, limit: float) -> str:
    head = f"<header><h3>{text(name)}</h3></header>"
    if isinstance(summary, str):
        body = notice("This model cannot answer", summary, "error")
        return f'<article class="cvx-card">{head}{body}</article>'
    signed = summary.reduction == "signed"
    mean = summary.mean_map * np.float32(summary.mean_map.size / limit if limit > 0 else 1)
    pixels = picture(colorize(mean, signed), f"mean map of {name} for {summary.class_name}")
    figure = (
        f'<figure class="cvx-mean">{pixels}<figcaption>{color_bar(limit, signed)}'
        "<span>mean map, × a uniform map</span></figcaption></figure>"
    )
    return (
        f'<article class="cvx-card" aria-label="{text(name)}">{head}'
        f'<div class="cvx-class-body">{figure}{_facts(summary)}{_exemplars(name, summary, signed)}</div></article>'
    )


def _facts(summary: ClassSummary) -> str:
    facts: list[tuple[str, ...]] = [
        ("images", str(summary.num), "of this class among the stored samples that were looked at"),
        ("recognized", percent(summary.accuracy), "share of them that the model assigns to this class"),
    ]
    if np.isfinite(summary.center_bias):
        hint = "mean distance of a map from the center over that of a uniform map; below 1 is central"
        facts.append(("center bias", f"{summary.center_bias:.2f}", hint))
    if summary.mass_on_mask is not None and summary.mask_share is not None:
        hint = "share of a map on the pixels that decide the class; by chance it would be the second number"
        chance = f"chance {percent(summary.mask_share)}"
        facts.append(("mass on mask", percent(summary.mass_on_mask), hint, chance))
    if summary.num_zero:
        facts.append(("zero maps", str(summary.num_zero), "maps that are zero everywhere, left out of the mean"))
    items = "".join(
        f'<div title="{text(hint)}"><dt>{text(name)}</dt><dd>{text(value)}{_small(more)}</dd>'
        f'<dd class="cvx-hint">{text(hint)}</dd></div>'
        for name, value, hint, *more in facts
    )
    return f'<dl class="cvx-facts-list">{items}</dl>'


def _small(words: Sequence[str]) -> str:
    return "".join(f"<small>{text(one)}</small>" for one in words)


def _exemplars(name: str, summary: ClassSummary, signed: bool) -> str:
    scaled = rescale(list(summary.maps), mode="each", clip=CLIP)
    columns = "".join(_exemplar(name, summary, i, colorize(one.values, signed)) for i, one in enumerate(scaled))
    return f'<div class="cvx-exemplars">{columns}</div>'


def _exemplar(name: str, summary: ClassSummary, i: int, colors: np.ndarray) -> str:
    right = summary.preds[i] == summary.class_name
    sign = "✓" if right else "✗"
    said = f"exemplar {i + 1}, predicted {summary.preds[i]}"
    return (
        f"<figure>{picture(gray_or_rgb(summary.images[i]), said)}"
        f"{picture(colors, f'map of {name} for exemplar {i + 1}')}"
        f'<figcaption class="{"" if right else "cvx-wrong"}">{sign} {text(summary.preds[i])}</figcaption></figure>'
    )
