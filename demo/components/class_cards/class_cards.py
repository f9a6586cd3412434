"""The cards of the tab Class view as HTML."""

from collections.abc import Mapping, Sequence

import numpy as np

from cvx.attribution import rescale
from cvx.maps.class_summary import ClassSummary
from cvx.plotting.colors import colorize, gray_or_rgb
from cvx.plotting.labels import CLIP, METHOD_WORDS, REDUCTION_WORDS, SCORE_WORDS, percent
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
    shelf: ModelService,
    shown: DatasetEntry,
    class_name: str,
    models: Sequence[str],
    num: int,
    reduction: str,
    score: str,
    method: str,
    link: str = "",
) -> str:
    """Draw a card per model, the mean maps on one scale; a model that cannot answer says why in its own."""
    samples = shown.samples
    if samples is None:
        return notice("No samples to look at", shown.trouble)
    found: dict[str, ClassSummary | str] = {}
    for name, entry in ((name, shown.columns[name]) for name in models if name in shown.columns):
        try:
            found[name] = shelf.class_view(entry, samples, class_name, num, reduction, score, method)
        except (ValueError, OSError, RuntimeError) as error:
            found[name] = str(error)
    return (
        f'<div class="cvx-classes" data-link="{text(link)}"><header>'
        f"<h2>{text(class_name)}</h2><p>{text(shown.name)}</p></header>"
        f"{_legend(score, method, reduction)}"
        f'<div class="cvx-cards" style="--columns:{len(found)}">{_cards(found)}</div>'
        f"<p class='cvx-small'>{text(ALIGNED)}</p></div>"
    )


def _legend(score: str, method: str, reduction: str) -> str:
    detail = (
        f"{METHOD_WORDS[method]} of the {SCORE_WORDS[score]} of the class, {REDUCTION_WORDS[reduction]}."
        " Exemplars are the first of the class in stored order, each map on its own scale."
    )
    return legend(reduction == "signed", detail[0].upper() + detail[1:])


def _cards(found: Mapping[str, ClassSummary | str]) -> str:
    limit = max((_peak(view) for view in found.values() if isinstance(view, ClassSummary)), default=0.0)
    return "".join(_card(name, view, limit) for name, view in found.items())


def _peak(view: ClassSummary) -> float:
    return float(np.abs(view.mean_map).max()) * view.mean_map.size


def _card(name: str, view: ClassSummary | str, limit: float) -> str:
    head = f"<header><h3>{text(name)}</h3></header>"
    if isinstance(view, str):
        body = notice("This model cannot answer", view, "error")
        return f'<article class="cvx-card">{head}{body}</article>'
    signed = view.reduction == "signed"
    mean = view.mean_map * np.float32(view.mean_map.size / limit if limit > 0 else 1)
    pixels = picture(colorize(mean, signed), f"mean map of {name} for {view.class_name}")
    figure = (
        f'<figure class="cvx-mean">{pixels}<figcaption>{color_bar(limit, signed)}'
        "<span>mean map, × a uniform map</span></figcaption></figure>"
    )
    return (
        f'<article class="cvx-card" aria-label="{text(name)}">{head}'
        f'<div class="cvx-class-body">{figure}{_facts(view)}{_exemplars(name, view, signed)}</div></article>'
    )


def _facts(view: ClassSummary) -> str:
    facts: list[tuple[str, ...]] = [
        ("images", str(view.num), "of this class among the stored samples that were looked at"),
        ("recognized", percent(view.accuracy), "share of them that the model assigns to this class"),
    ]
    if np.isfinite(view.center_bias):
        hint = "mean distance of a map from the center over that of a uniform map; below 1 is central"
        facts.append(("center bias", f"{view.center_bias:.2f}", hint))
    if view.mass_on_mask is not None and view.mask_share is not None:
        hint = "share of a map on the pixels that decide the class; by chance it would be the second number"
        chance = f"chance {percent(view.mask_share)}"
        facts.append(("mass on mask", percent(view.mass_on_mask), hint, chance))
    if view.num_zero:
        facts.append(("zero maps", str(view.num_zero), "maps that are zero everywhere, left out of the mean"))
    items = "".join(
        f'<div title="{text(hint)}"><dt>{text(name)}</dt><dd>{text(value)}{_small(more)}</dd>'
        f'<dd class="cvx-hint">{text(hint)}</dd></div>'
        for name, value, hint, *more in facts
    )
    return f'<dl class="cvx-facts-list">{items}</dl>'


def _small(words: Sequence[str]) -> str:
    return "".join(f"<small>{text(one)}</small>" for one in words)


def _exemplars(name: str, view: ClassSummary, signed: bool) -> str:
    scaled = rescale(list(view.maps), mode="each", clip=CLIP)
    columns = "".join(_exemplar(name, view, i, colorize(one.values, signed)) for i, one in enumerate(scaled))
    return f'<div class="cvx-exemplars">{columns}</div>'


def _exemplar(name: str, view: ClassSummary, i: int, colors: np.ndarray) -> str:
    right = view.preds[i] == view.class_name
    sign = "✓" if right else "✗"
    said = f"exemplar {i + 1}, predicted {view.preds[i]}"
    return (
        f"<figure>{picture(gray_or_rgb(view.images[i]), said)}"
        f"{picture(colors, f'map of {name} for exemplar {i + 1}')}"
        f'<figcaption class="{"" if right else "cvx-wrong"}">{sign} {text(view.preds[i])}</figcaption></figure>'
    )
