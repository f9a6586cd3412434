"""Figures of measures: the matrix of models, curves of removal, what randomization leaves."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from cvx.comparison.agreement_result import AGREEMENT_WORDS, FLOORS, Agreement
from cvx.comparison.embeddings import Layout
from cvx.comparison.faithfulness import MAPS, Faithfulness
from cvx.comparison.randomization import Sanity
from cvx.comparison.tables import CONDITION_WORDS, FLOOR_WORDS
from cvx.comparison.training_history import TrainingHistory
from cvx.metrics.bootstrap import decimal
from cvx.plotting.colors import class_colors

COLORS = ("#3b1f9e", "#8a8f98", "#c9a227", "#2a9d8f", "#d1495b")
MODEL_COLORS = ("#3b1f9e", "#d1495b", "#2a9d8f", "#c9a227", "#7a5195", "#5b8e7d", "#ef7b45")
STYLES = ("-", ":", "-.", "--", (0, (3, 1, 1, 1, 1, 1)))
NOTE = (
    "Framed: the same recipe from other seeds (– where the store has none). Right of the line: edges of the image,"
    " noise, and the model's own maps of other images."
)
INK, MUTED = "#212529", "#687078"


def matrix_figure(found: Agreement, condition: str = "all") -> bytes:
    """Draw every measure's matrix as a PNG: models against models, then against what knows no other model.

    The diagonal, where a model would meet itself, holds its ceiling: its own recipe from other seeds.
    """
    num, columns = len(found.references), min(3, len(found.names))
    lines = -(-len(found.names) // columns)
    width, height = 0.5 + 0.58 * (num + len(FLOORS)), 1.5 + 0.42 * num
    figure = _figure(max(8.0, columns * width + 1.2), lines * height + 1.0)
    axes = figure.subplots(lines, columns, squeeze=False)
    for k, place in enumerate(axes.flat):
        if k < len(found.names):
            _matrix(place, found, found.names[k], condition, first=k % columns == 0)
        else:
            place.set_axis_off()
    few = f"{len(found.labels)} images of {found.dataset} ({found.options.split}), {CONDITION_WORDS[condition]}"
    _title(figure, "How alike the models look", f"{few}; score: {found.options.score} of the {_whose(found)}")
    _note(figure, NOTE)
    return _png(figure)


def _whose(found: Agreement) -> str:
    return {"label": "true class", "pred": "predicted class"}[found.options.target]


def _matrix(place: Any, found: Agreement, name: str, condition: str, first: bool) -> None:
    num = len(found.references)
    values = np.full((num, num + len(FLOORS)), np.nan)
    values[:, :num] = found.matrix(name, condition)
    for i in range(num):
        ceiling = found.ceiling(name, i)
        values[i, i] = np.nan if ceiling is None else ceiling.mean
        values[i, num:] = [found.floor(name, i, kind).mean for kind in FLOORS]
    place.imshow(np.ma.masked_invalid(values), cmap="viridis", vmin=0, vmax=1, aspect="auto")
    place.set_facecolor("#eceef1")
    for (i, j), value in np.ndenumerate(values):
        color = INK if np.isnan(value) or value > 0.6 else "white"
        place.text(j, i, decimal(value), ha="center", va="center", color=color, fontsize=9)
    for i in range(num):
        place.add_patch(_frame(i))
    place.axvline(num - 0.5, color="white", linewidth=3)
    words = [*found.columns, *(FLOOR_WORDS[kind] for kind in FLOORS)]
    place.set_xticks(range(len(words)), words, rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
    place.set_yticks(range(num), found.columns if first else [""] * num, fontsize=8)
    place.set_title(AGREEMENT_WORDS[name][0], fontsize=10, color=INK, loc="left")
    _bare(place)


def _frame(i: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((i - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor="white", linewidth=1.5)


def removal_figure(found: Faithfulness) -> bytes:
    """Draw every model's removal curves as a PNG, its own maps against the controls."""
    num = len(found.references)
    figure = _figure(2.5 * len(found.tests) + 0.6, 2.3 * num + 1.5)
    axes = figure.subplots(num, len(found.tests), squeeze=False, sharey=True)
    for i, line in enumerate(axes):
        for test, place in zip(found.tests, line, strict=True):
            for k, name in enumerate(MAPS):
                place.plot(
                    found.shares(test),
                    found.curve(i, test, name),
                    color=COLORS[k],
                    linestyle=STYLES[k],
                    linewidth=2 if name == "own" else 1.2,
                    label=name.replace("_", " "),
                )
            place.set_ylim(0, 1)
            if i == 0:
                place.set_title(f"{_test_name(test)}\n({found.better(test)} is better)", fontsize=9, loc="left")
            _plain(place)
        line[0].set_ylabel(found.columns[i], fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(MAPS), frameon=False, fontsize=9)
    _title(figure, "What the model says while pixels go or come", "probability of the explained class over their share")
    return _png(figure)


def _test_name(test: str) -> str:
    kind, how = test.split("_")
    return f"ROAD, {how} important first" if kind == "road" else f"{kind}, {how}"


def sanity_figure(found: Sanity) -> bytes:
    """Draw what is left of every model's maps as its blocks are randomized, as a PNG."""
    names = found.names
    figure = _figure(3.8 * len(names) + 0.8, 4.4)
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for name, place in zip(names, axes, strict=True):
        for i, column in enumerate(found.columns):
            blocks = found.blocks(i)
            means = [1.0, *(found.after(i, name, block).mean for block in blocks)]
            color, style = MODEL_COLORS[i % len(MODEL_COLORS)], STYLES[i % len(STYLES)]
            at = np.linspace(0, 1, len(means))
            place.plot(at, means, color=color, linestyle=style, marker="o", markersize=3, label=column)
            place.plot([1.02, 1.08], [found.floor(i, name, "other_image").mean] * 2, color=color, linewidth=2)
        place.axhline(0, color=MUTED, linewidth=0.8)
        place.set_xticks([0, 1], ["none", "all"])
        place.set_xlabel("blocks randomized, from the output", fontsize=9)
        place.set_title(AGREEMENT_WORDS[name][0], fontsize=10, loc="left")
        _plain(place)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    _title(figure, "What is left of the maps when what was learned is taken away", "agreement with the trained model's")
    _note(figure, "Short lines on the right: the trained model's own maps of other images; noise lies at 0.")
    return _png(figure)


def training_figure(found: Sequence[TrainingHistory]) -> bytes:
    """Draw every model's accuracy, its maps' agreement with the final ones and its classes' separation, as a PNG."""
    parts = {
        "validation accuracy": "val/acc1",
        "maps like the final ones (Spearman)": "maps_like_final",
        "mass of the maps on the masks (dashed: chance)": "mask_mass",
        "silhouette of the classes (PCA of val logits)": "silhouette",
    }
    flat = [one.rows() for one in found]
    shown = {title: name for title, name in parts.items() if any(name in row for rows in flat for row in rows)}
    figure = _figure(3.4 * len(shown) + 0.6, 4.2)
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for (title, name), place in zip(shown.items(), axes, strict=True):
        for i, rows in enumerate(flat):
            epochs, values = zip(*((row["epoch"], row.get(name, np.nan)) for row in rows), strict=True)
            color, style = MODEL_COLORS[i % len(MODEL_COLORS)], STYLES[i % len(STYLES)]
            label = found[i].reference
            place.plot(epochs, values, color=color, linestyle=style, marker="o", markersize=2.5, label=label)
            if name == "mask_mass" and name in rows[0]:
                place.axhline(found[i].chance, color=MUTED, linewidth=0.8, linestyle="--", label="_chance")
        place.set_xlabel("epoch", fontsize=9)
        place.set_title(title, fontsize=9, loc="left", color=INK)
        _plain(place)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    _title(figure, "Where the maps settle, and the classes come apart", "maps of the film's images, epoch by epoch")
    return _png(figure)


def layouts_figure(found: Sequence[Layout]) -> bytes:
    """Draw every model's layouts of the test logits as a PNG, a color per class."""
    names = list(found[0].points)
    colors = np.array(class_colors(max(one.logits.shape[1] for one in found)))
    figure = _figure(2.9 * len(names) + 0.4, 2.6 * len(found) + 1.2)
    axes = figure.subplots(len(found), len(names), squeeze=False)
    for one, line in zip(found, axes, strict=True):
        for name, place in zip(names, line, strict=True):
            place.scatter(*one.points[name].T, c=colors[one.labels], s=4, linewidths=0)
            place.set(xticks=[], yticks=[])
            place.set_title(name, fontsize=9, loc="left", color=INK)
            _without(place, ("top", "right", "bottom", "left"))
        line[0].set_ylabel(one.reference, fontsize=9)
    _title(figure, "The test logits in the plane", "turned and scaled onto the first model of the same images")
    _note(
        figure,
        "A layout is a layout: in t-SNE's and UMAP's, distances between far clusters and their sizes mean little.",
    )
    return _png(figure)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _title(figure: Any, title: str, detail: str) -> None:
    figure.suptitle(f"{title}\n{detail}", fontsize=11, color=INK, x=0.01, ha="left")


def _note(figure: Any, text: str) -> None:
    import textwrap

    width = int(figure.get_size_inches()[0] * 15)
    figure.supxlabel(textwrap.fill(text, width), fontsize=8, color=MUTED, x=0.01, ha="left")


def _bare(place: Any) -> None:
    place.tick_params(length=0, colors=INK)
    _without(place, ("top", "right", "bottom", "left"))


def _plain(place: Any) -> None:
    place.tick_params(labelsize=8, colors=INK)
    place.grid(color="#e6e8eb", linewidth=0.6)
    _without(place, ("top", "right"))


def _without(place: Any, sides: Sequence[str]) -> None:
    for side in sides:
        place.spines[side].set_visible(False)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
