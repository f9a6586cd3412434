"""The film of maps of the tab Training film as HTML: all frames at once, played in the browser."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from cvx.attribution import Scaled, rescale
from cvx.attribution.options import REDUCTION_WORDS
from cvx.metrics.classification import softmax
from cvx.plotting import colors, labels
from cvx.plotting.colors import data_uri
from cvx.plotting.labels import CLIP
from demo.backend.catalog import DatasetEntry
from demo.backend.run_history import FilmFrames, RecordedRun, RunHistory
from demo.components.markup import legend, notice, picture, text

METRICS = {"val/acc1": "validation accuracy", "val/loss": "validation loss", "train/loss": "training loss"}
MOSTLY = 0.5
"""Share of zero pixels above which a frame is said to be mostly zero."""
UNTRAINED = (
    "an untrained ResNet's residual branches start at zero, and the strided shortcuts that are left see only some of"
    " the pixels"
)


@dataclass(frozen=True, eq=False)
class Strip:
    """One run's maps of one image, ready to be drawn."""

    run: RecordedRun
    film: FilmFrames
    scaled: Sequence[Scaled]


def page(
    history: RunHistory,
    dataset: DatasetEntry | None,
    runs: Sequence[RecordedRun],
    index: int,
    scale: str,
    reduction: str,
    link: str = "",
) -> str:
    """Draw the player, a curve and one card per run; a run that has no film says why in its own card."""
    if not runs:
        return notice("Choose a run", "Tick one or more runs; every run that cvx trains keeps a film of its maps.")
    films, errors = _read_films(history, runs, reduction)
    index = min(index, min((film.heatmaps.shape[1] for _, film in films), default=1) - 1)
    strips = _strips(films, index, scale)
    signed = reduction == "signed"
    image = _image(dataset, films, index)
    classes = dataset.classes if dataset else ()
    cards = "".join(_card(strip, image, classes, index, signed) for strip in strips)
    cards += "".join(_broken(run, error) for run, error in errors)
    rows, lost = _rows(history, strips)
    data = json.dumps(_data(rows, strips, classes, index))
    return (
        f'<div class="cvx-film" data-link="{text(link)}">{_player(strips)}'
        f'<div hidden data-json="{text(data)}"></div>{_legend(reduction, scale)}'
        f'{lost}<div class="cvx-cards" style="--columns:{len(runs)}">{cards}</div></div>'
    )


def _image(
    dataset: DatasetEntry | None, films: Sequence[tuple[RecordedRun, FilmFrames]], index: int
) -> UInt8[np.ndarray, "h w c"] | None:
    """Return the image of the maps, unless the stored samples are not those that the runs were trained beside."""
    gallery = dataset.gallery if dataset else None
    if gallery is None or any(not np.array_equal(gallery.labels[: len(r.targets)], r.targets) for _, r in films):
        return None
    return np.array(gallery.images[index])


def _read_films(history: RunHistory, runs: Sequence[RecordedRun], reduction: str) -> tuple[list[Any], list[Any]]:
    films, errors = [], []
    for run in runs:
        try:
            films.append((run, history.film(run, reduction)))
        except (ValueError, OSError) as error:
            errors.append((run, str(error)))
    return films, errors


def _strips(films: Sequence[tuple[RecordedRun, FilmFrames]], index: int, scale: str) -> list[Strip]:
    """Scale every map of one image: on one scale for all runs and epochs, for a run, for an epoch, or alone."""
    maps = [film.heatmaps[:, index] for _, film in films]
    whole = [float(rescale([frames.reshape(-1, frames.shape[-1])], "each", CLIP)[0].limit) for frames in maps]
    by_epoch = _limits_by_epoch(films, maps) if scale == "epoch" else {}
    strips = []
    for (run, film), frames, own in zip(films, maps, whole, strict=True):
        ends = {"film": max(whole), "run": own}
        limits = [ends.get(scale, by_epoch.get(epoch, 0.0)) for epoch in film.epochs]
        strips.append(Strip(run, film, [_scaled(one, limit) for one, limit in zip(frames, limits, strict=True)]))
    return strips


def _scaled(heatmap: Float32[np.ndarray, "h w"], limit: float) -> Scaled:
    """Scale one map to a limit, or to its own where there is none."""
    return rescale([heatmap], "absolute", limit=limit)[0] if limit > 0 else rescale([heatmap], "each", CLIP)[0]


def _limits_by_epoch(
    films: Sequence[tuple[RecordedRun, FilmFrames]], maps: Sequence[Float32[np.ndarray, "_ _ _"]]
) -> dict[int, float]:
    """Return the end of the scale at every epoch; a run without a frame there counts with its newest before."""
    limits = {}
    for epoch in sorted({epoch for _, film in films for epoch in film.epochs}):
        seen = [
            frames[max(0, int(np.searchsorted(film.epochs, epoch, "right")) - 1)]
            for (_, film), frames in zip(films, maps, strict=True)
        ]
        limits[epoch] = float(rescale(seen, "shared", CLIP)[0].limit)
    return limits


def _player(strips: Sequence[Strip]) -> str:
    epochs = sorted({epoch for strip in strips for epoch in strip.film.epochs}) or [0]
    options = "".join(f'<option value="{name}">{words}</option>' for name, words in METRICS.items())
    return (
        '<div class="cvx-player" role="group" aria-label="film of the maps">'
        '<button type="button" class="cvx-play" aria-label="play">▶</button>'
        f'<input type="range" min="0" max="{len(epochs) - 1}" value="{len(epochs) - 1}" step="1" aria-label="epoch">'
        f"<output>epoch {epochs[-1]}</output>"
        '<select class="cvx-speed" aria-label="speed"><option value="2">2 a second</option>'
        '<option value="6" selected>6 a second</option><option value="15">15 a second</option></select></div>'
        '<section class="cvx-card cvx-curve" aria-label="learning curve"><header><h3>Learning curve</h3>'
        f'<select class="cvx-metric" aria-label="metric of the curve">{options}</select></header>'
        '<div class="cvx-plot" style="height:200px"></div>'
        '<p class="cvx-small">Click the curve to go there. Space plays and stops, arrows step.</p></section>'
    )


def _legend(reduction: str, scale: str) -> str:
    what = {
        "film": "one scale for all runs and epochs",
        "run": "one scale for all epochs of a run",
        "epoch": "one scale for all runs, another at every epoch",
        "each": "every map on its own scale: brightness cannot be compared",
    }[scale]
    how = f"Vanilla gradient of the label's logit, {REDUCTION_WORDS[reduction]}"
    return legend(reduction == "signed", f"{how}; {what}, ending at the {100 * CLIP:g}th percentile")


def _card(
    strip: Strip, image: UInt8[np.ndarray, "_ _ _"] | None, classes: Sequence[str], index: int, signed: bool
) -> str:
    run, (height, width) = strip.run, strip.film.heatmaps.shape[2:]
    label = _name(classes, int(strip.film.targets[index]))
    sprite = data_uri(np.concatenate([colors.colorize(one.values, signed) for one in strip.scaled], axis=1))
    canvas = f'<canvas class="cvx-pixels" width="{width}" height="{height}" data-sprite="{sprite}"'
    said = f'role="img" aria-label="map of {text(run.label)} for {text(label)}"'
    overlay_figure = image_figure = ""
    if image is not None:
        gray = colors.overlay(image, np.zeros(image.shape[:2], np.float32), signed, 0)
        image_figure = (
            f"<figure>{picture(colors.gray_or_rgb(image), 'the image')}<figcaption>{text(label)}</figcaption></figure>"
        )
        overlay_figure = (
            f'<figure><div class="cvx-over">{picture(gray, "map over the image")}'
            f'<canvas class="cvx-pixels cvx-veil" width="{width}" height="{height}"></canvas></div>'
            "<figcaption>overlay</figcaption></figure>"
        )
    return (
        f'<article class="cvx-card cvx-reel" data-run="{text(run.name)}" aria-label="{text(run.label)}"><h3>'
        f'<i class="cvx-key"></i>{text(run.label)}</h3><div class="cvx-trio">{image_figure}'
        f"<figure>{canvas} {said}></canvas>"
        '<figcaption class="cvx-scale"></figcaption></figure>'
        f'{overlay_figure}</div><p class="cvx-small cvx-facts-line"></p><p class="cvx-small cvx-zero"></p></article>'
    )


def _broken(run: RecordedRun, error: str) -> str:
    return f'<article class="cvx-card"><h3>{text(run.label)}</h3>{notice("No film", error, "error")}</article>'


def _rows(history: RunHistory, strips: Sequence[Strip]) -> tuple[dict[str, list[dict[str, float]]], str]:
    """Read every run's metrics; where they are damaged, say so: the film plays without a curve."""
    rows, lost = {}, ""
    for run in (strip.run for strip in strips):
        try:
            rows[run.name] = history.rows(run)
        except (ValueError, OSError) as error:
            rows[run.name] = []
            lost += notice(f"No learning curve of {run.label}", str(error), "error")
    return rows, lost


def _data(
    rows: Mapping[str, Sequence[dict[str, float]]], strips: Sequence[Strip], classes: Sequence[str], index: int
) -> dict[str, Any]:
    """Gather what the browser needs to play: the epochs, every run's curve, and what is said below each frame."""
    epochs = sorted({epoch for strip in strips for epoch in strip.film.epochs})
    return {"epochs": epochs, "runs": [_run(rows[strip.run.name], strip, classes, index) for strip in strips]}


def _run(rows: Sequence[dict[str, float]], strip: Strip, classes: Sequence[str], index: int) -> dict[str, Any]:
    film, target = strip.film, int(strip.film.targets[index])
    logits = film.logits[:, index].astype(np.float64)
    probs = softmax(logits)
    return {
        "name": strip.run.name,
        "label": strip.run.label,
        "epochs": film.epochs,
        "limits": [labels.number(float(one.limit)) for one in strip.scaled],
        "facts": [_facts(prob, target, classes) for prob in probs],
        "zeros": [
            _zeros(heat, epoch == 0 and "resnet" in strip.run.model)
            for epoch, heat in zip(film.epochs, film.heatmaps[:, index], strict=True)
        ],
        "curves": {name: _curve(rows, name) for name in METRICS},
    }


def _facts(prob: np.ndarray, target: int, classes: Sequence[str]) -> str:
    pred = int(prob.argmax())
    sign = "✓" if pred == target else "✗"
    return f"{sign} predicts {_name(classes, pred)}; {_name(classes, target)} gets {100 * prob[target]:.1f} %"


def _zeros(heat: Float32[np.ndarray, "h w"], fresh: bool) -> str:
    """Say that a map is zero, and why where it is known: a ResNet begins with residual branches that are zero."""
    share = float((heat == 0).mean())
    if share == 1:
        return "This map is zero everywhere: no pixel moves the score."
    why = f": {UNTRAINED}" if fresh else ""
    return f"{100 * share:.0f} % of the pixels are exactly zero, not just dark{why}." if share >= MOSTLY else ""


def _curve(rows: Sequence[dict[str, float]], metric: str, most: int = 400) -> list[list[float]]:
    found = [(row["epoch"], row[metric]) for row in rows if metric in row]
    step = max(1, -(-len(found) // most))
    kept = found[::step] if step == 1 or not found else [*found[::step], found[-1]]
    return [[x for x, _ in kept], [round(y, 5) for _, y in kept]]


def _name(classes: Sequence[str], index: int) -> str:
    return classes[index] if index < len(classes) else f"class {index}"
