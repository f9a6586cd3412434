"""Report section on the film: maps through training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from cvx import comparison
from cvx.attribution import rescale, to_heatmap
from cvx.plotting.colors import colorize, data_uri, gray_or_rgb
from cvx.plotting.labels import CLIP, number, percent
from cvx.report import charts
from cvx.report.blocks import Block, Figure, Figures, Film, Heading, ModelFrames, Text
from cvx.report.snapshot import DatasetResults, RunRecord, StoreSnapshot, placeless
from cvx.store.npz import read_frame

NUM_FILM = 8
"""Images of the film that the page shows."""
MAX_FRAMES = 13


def film(study: StoreSnapshot) -> list[Block]:
    """Put every model's film side by side, and tell whether its maps settle before its accuracy."""
    blocks = [block for part in study.parts if part.samples is not None for block in _of_dataset(study, part)]
    return blocks or [Text("No run of this store has a film.", "note")]


def _of_dataset(study: StoreSnapshot, part: DatasetResults) -> list[Block]:
    reels, figures, problems = [], [], []
    for name, past in _filmed(part):
        try:
            reel, settling = _reel(name, past), part.settling(past)
        except (ValueError, OSError) as error:
            told = placeless(f"the film of {past.run.name} cannot be shown: {error}", study.store)
            problems.append(Text(told, "problem"))
            continue
        reels.append(reel)
        if settling is not None:
            figures.append(_settling_figure(name, settling, f"film-{part.dataset}-{name}"))
    blocks: list[Block] = [Heading(part.dataset), _film(part, reels)] if reels else []
    if figures:
        words = ("validation accuracy", "agreement of the maps with the final ones (Spearman)")
        legend = tuple((charts.css_color(i), text) for i, text in enumerate(words))
        blocks.append(Figures(tuple(figures), legend, layout="pairs"))
    return [*blocks, *problems]


def _film(part: DatasetResults, reels: Sequence[ModelFrames]) -> Film:
    assert part.samples is not None
    split = part.samples.split.head(NUM_FILM)
    images = tuple(data_uri(gray_or_rgb(np.asarray(image))) for image in split.images)
    labels = tuple(part.samples.classes[label] for label in split.labels)
    return Film(f"film-{part.dataset}", images, labels, tuple(reels))


def _settling_figure(name: str, settling: comparison.MapConvergence, salt: str) -> Figure:
    curve = settling.curve()
    low = float(np.nanmin([*curve, 0.0]))
    shown = [charts.PlotLine(settling.epochs, settling.accuracy, 0), charts.PlotLine(settling.epochs, curve, 1)]
    drawn = charts.lines(shown, "epoch", salt, y_range=(low, 1), size=(4.2, 2.3))
    sentence = settling.sentence().partition(": ")[2]
    return Figure(name, drawn, sentence[:1].upper() + sentence[1:])


def _filmed(part: DatasetResults) -> list[tuple[str, RunRecord]]:
    return [(name, past) for name, past in part.judged() if past.run.frames("film")]


def _reel(name: str, past: RunRecord) -> ModelFrames:
    frames = past.run.frames("film")
    every = list(frames)
    epochs = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, MAX_FRAMES).round().astype(int))]
    accuracy = dict(zip(*past.curve("val/acc1"), strict=True))
    columns: list[list[UInt8[np.ndarray, "h w 3"]]] = [[] for _ in range(NUM_FILM)]
    strengths = []
    for epoch in epochs:
        attribution = _attribution(frames[epoch])
        heat = to_heatmap(attribution)
        for column, one in zip(columns, rescale(list(heat), mode="each", clip=CLIP), strict=False):
            column.append(colorize(one.values))
        norms = np.linalg.norm(attribution.reshape(len(attribution), -1).astype(np.float64), axis=1)
        strengths.append(number(float(norms.mean())))
    sprites = tuple(data_uri(np.concatenate(column)) for column in columns if column)
    told = tuple(percent(accuracy[epoch]) if epoch in accuracy else "–" for epoch in epochs)
    return ModelFrames(name, tuple(epochs), told, tuple(strengths), sprites)


def _attribution(path: Path) -> Float32[np.ndarray, "m c h w"]:
    return read_frame(path, ("attribution",))["attribution"][:NUM_FILM]
