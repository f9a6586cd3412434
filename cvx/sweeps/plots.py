"""Plot a sweep: every trial as a line over its parameters, and how much each parameter mattered."""

import dataclasses
import io
import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from cvx.sweeps.search_space import Parameter
from cvx.sweeps.sweep_file import Metric

INK, MUTED, GRID = "#212529", "#68707a", "#d0d5da"
MIN_FOR_IMPORTANCE = 6
"""Trials below which importances would be noise."""
NUM_TREES = 64


@dataclasses.dataclass(frozen=True)
class Axis:
    """One parameter of the trials, drawn between 0 and 1."""

    name: str
    positions: Float64[np.ndarray, "n"]
    ticks: tuple[tuple[float, str], ...]
    ordered: bool
    """Numbers are; choices that are no numbers are not."""


def axis(parameter: Parameter, values: Sequence[Any]) -> Axis:
    """Place a parameter's values on an axis: logarithmic if its distribution is, choices evenly."""
    if parameter.choices is not None:
        return _choices(parameter, values)
    logarithmic = "log" in parameter.distribution and min(values) > 0
    ends = _ends(parameter, values, logarithmic)
    low, high = (math.log(end) if logarithmic else end for end in ends)
    scaled = np.log(np.array(values, np.float64)) if logarithmic else np.array(values, np.float64)
    span = high - low
    positions = (scaled - low) / span if span > 0 else np.full(len(values), 0.5)
    ticks = []
    for place in np.linspace(0, 1, 5):
        at = low + place * span
        ticks.append((float(place), f"{math.exp(at) if logarithmic else at:.3g}"))
    return Axis(parameter.name, positions, tuple(ticks), ordered=True)


def _ends(parameter: Parameter, values: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if "min" in parameter.spec and not parameter.distribution.startswith("inv_log_uniform"):
        given = [parameter.spec["min"], parameter.spec["max"]]
        exponents = logarithmic and not parameter.distribution.endswith("_values")
        given = [math.exp(end) for end in given] if exponents else given
        low, high = (min(low, given[0]), max(high, given[1])) if given[0] > 0 or not logarithmic else (low, high)
    return low, high


def _choices(parameter: Parameter, values: Sequence[Any]) -> Axis:
    known = [_text(value) for value in parameter.choices or ()]
    places = np.linspace(0, 1, len(known)) if len(known) > 1 else np.array([0.5])
    positions = np.array([places[known.index(_text(value))] for value in values], np.float64)
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in parameter.choices or ())
    rising = numeric and list(parameter.choices or ()) == sorted(parameter.choices or ())
    return Axis(parameter.name, positions, tuple(zip(places.tolist(), known, strict=True)), ordered=rising)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def parallel_coordinates(
    axes: Sequence[Axis],
    scores: Float64[np.ndarray, "n"],
    full: Bool[np.ndarray, "n"],
    metric: Metric,
) -> bytes:
    """Draw every trial as a line over its parameters to its score; the best thick, those stopped early dashed.

    Args:
        full: Whether a trial was run to its end.

    Returns:
        A PNG.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    columns = [*axes, _score_axis(scores, metric.name)]
    figure = Figure(figsize=(max(6.0, 1.9 * len(columns) + 1), 4.6), dpi=120, layout="constrained")
    panel = figure.add_subplot()
    quality = columns[-1].positions if metric.maximize else 1 - columns[-1].positions
    best = _best(scores, full, metric)
    for i in np.argsort(quality):
        color, width = (INK, 2.6) if i == best else (colormaps["viridis"](quality[i] * 0.9), 1.3)
        curve = _curve([axis.positions[i] for axis in columns])
        dashes = "-" if full[i] else (0, (4, 2))
        panel.plot(*curve, color=color, lw=width, ls=dashes, alpha=0.9, zorder=5 if i == best else 2)
    _draw_axes(panel, columns)
    panel.set_title(_title(full, metric), fontsize=10, color=INK, loc="left")
    return _png(figure)


def _score_axis(scores: Float64[np.ndarray, "n"], name: str) -> Axis:
    low, high = float(scores.min()), float(scores.max())
    positions = (scores - low) / (high - low) if high > low else np.full(len(scores), 0.5)
    ticks = tuple((float(place), f"{low + place * (high - low):.4g}") for place in np.linspace(0, 1, 5))
    return Axis(name, positions, ticks if high > low else ((0.5, f"{low:.4g}"),), ordered=True)


def _title(full: Bool[np.ndarray, "n"], metric: Metric) -> str:
    words = f"{metric.name} ({'higher' if metric.maximize else 'lower'} is better): {len(full)} trials"
    words += "; the best in black"
    return words if full.all() else f"{words}; {int((~full).sum())} stopped early, dashed, at their best value so far"


def _best(scores: Float64[np.ndarray, "n"], full: Bool[np.ndarray, "n"], metric: Metric) -> int:
    signed = scores if metric.maximize else -scores
    return int(np.argmax(np.where(full, signed, -np.inf) if full.any() else signed))


def _curve(heights: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Join points by S-curves, so that lines through the same point can be told apart."""
    t = np.linspace(0, 1, 30)
    ease = t * t * (3 - 2 * t)
    xs = np.concatenate([i + t for i in range(len(heights) - 1)])
    ys = np.concatenate([a + (b - a) * ease for a, b in itertools.pairwise(heights)])
    return xs, ys


def _draw_axes(panel: Any, columns: Sequence[Axis]) -> None:
    for x, axis in enumerate(columns):
        panel.plot([x, x], [0, 1], color=MUTED, lw=1, zorder=1)
        side = "right" if x < len(columns) - 1 else "left"
        for height, label in axis.ticks:
            offset = -0.04 if side == "right" else 0.04
            panel.text(
                x + offset,
                height,
                label,
                ha=side,
                va="center",
                fontsize=8,
                color=MUTED,
                zorder=9,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            )
    panel.set_xticks(range(len(columns)), [axis.name for axis in columns], fontsize=10, color=INK)
    panel.set_yticks([])
    panel.set_xlim(-0.55, len(columns) - 0.5)
    panel.set_ylim(-0.05, 1.05)
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)


@dataclasses.dataclass(frozen=True)
class Importance:
    """How much one parameter mattered."""

    name: str
    share: float
    """Of the score's variance over the space, as a random forest sees it; all shares sum to 1."""
    correlation: float | None
    """Spearman's rank correlation with the score; None for choices without an order."""


def importance(axes: Sequence[Axis], scores: Float64[np.ndarray, "n"]) -> list[Importance] | None:
    """Say how much each parameter mattered: functional ANOVA (Hutter et al., 2014, ICML), largest first.

    Returns:
        None if there are too few trials, or all score the same.
    """
    moved = [axis for axis in axes if len(set(axis.positions.tolist())) > 1]
    if len(scores) < MIN_FOR_IMPORTANCE or float(np.ptp(scores)) == 0 or not moved:
        return None
    from scipy.stats import spearmanr

    shares = _shares(moved, scores)
    importances = []
    for axis in axes:
        varies = axis in moved
        correlation = float(spearmanr(axis.positions, scores).statistic) if varies and axis.ordered else None
        importances.append(Importance(axis.name, shares.get(axis.name, 0.0), correlation))
    return sorted(importances, key=lambda importance: -importance.share)


def _shares(axes: Sequence[Axis], scores: Float64[np.ndarray, "n"]) -> dict[str, float]:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    kinds: dict[str, BaseDistribution] = {
        axis.name: FloatDistribution(0.0, 1.0)
        if axis.ordered
        else CategoricalDistribution(tuple(place for place, _ in axis.ticks))
        for axis in axes
    }
    for i, score in enumerate(scores):
        params = {axis.name: float(axis.positions[i]) for axis in axes}
        study.add_trial(optuna.create_trial(value=float(score), params=params, distributions=kinds))
    judge = optuna.importance.FanovaImportanceEvaluator(n_trees=NUM_TREES, seed=0)
    return {
        name: float(share) for name, share in optuna.importance.get_param_importances(study, evaluator=judge).items()
    }


def importance_figure(importances: Sequence[Importance], num_trials: int, metric: str) -> bytes:
    """Draw importances as bars, with the direction in which each parameter moves the score.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 1.3 + 0.42 * len(importances)), dpi=120, layout="constrained")
    panel = figure.add_subplot()
    rows = range(len(importances))
    panel.barh(rows, [importance.share for importance in importances], color="#31688e", height=0.62)
    for row, importance in enumerate(importances):
        words = f"{importance.share:.2f}" + (
            f"   ρ {importance.correlation:+.2f}" if importance.correlation is not None else ""
        )
        panel.text(importance.share + 0.01, row, words, va="center", fontsize=9, color=INK)
    panel.set_yticks(rows, [importance.name for importance in importances], fontsize=10, color=INK)
    panel.invert_yaxis()
    panel.set_xlim(0, 1.25)
    panel.set_xticks(np.linspace(0, 1, 5))
    panel.set_xlabel(
        "share of the score's variance (functional ANOVA); ρ: Spearman's rank correlation", fontsize=9, color=MUTED
    )
    panel.set_title(
        f"what moves {metric}: {num_trials} trials, so take it as a hint", fontsize=10, color=INK, loc="left"
    )
    panel.tick_params(length=0, labelcolor=INK)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(GRID)
    return _png(figure)


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor="white")
    return stream.getvalue()
