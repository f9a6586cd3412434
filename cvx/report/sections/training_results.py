"""Report sections on training: results per recipe, learning curves."""

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from cvx.report import charts
from cvx.report.blocks import (
    Block,
    Figure,
    Figures,
    Heading,
    Table,
    Text,
)
from cvx.report.snapshot import DatasetResults, Recipe, StoreSnapshot, number

MAX_COLORED = 8
"""Recipes that get a color; the others are gray."""


def spread(values: Sequence[float], digits: int = 2, unit: str = " %", factor: float = 100.0) -> str:
    """Write the mean, and the smallest and largest in brackets where there are several."""
    known = [factor * value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    mean = f"{statistics.mean(known):.{digits}f}{unit}"
    return mean if len(known) == 1 else f"{mean} [{min(known):.{digits}f}, {max(known):.{digits}f}]"


def what_was_trained(study: StoreSnapshot) -> list[Block]:
    """Tell models × datasets in one table, and what could not be read."""
    columns: tuple[str, ...] = (
        "model",
        "dataset",
        "test accuracy",
        "val accuracy",
        "ECE",
        "parameters",
        "images/s",
        "seeds",
        "recipes",
    )
    rows = [row for part in study.parts for row in _model_rows(part)]
    if all(row[-1] in ("1", "–") for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    blocks: list[Block] = [Table(columns, tuple(rows), num_names=2)] if rows else []
    blocks += [Text(problem, "problem") for problem in study.problems]
    return blocks


def _model_rows(part: DatasetResults) -> list[tuple[str, ...]]:
    rows = []
    cards = {one.card.model: one for one in part.lookers}
    for model in sorted({one.model for one in part.recipes} | set(cards)):
        looker, recipe = cards.get(model), part.best_recipe(model)
        params = f"{looker.card.num_params:,}" if looker else "–"
        if recipe is None:
            numbers = looker.card.metrics if looker else {}
            shown = [spread([numbers.get(key, math.nan)]) for key in ("test/acc1", "val/acc1")]
            ece = spread([numbers.get("test/ece", math.nan)], 3, "", 1)
            rows.append((model, part.dataset, *shown, ece, params, "–", "–", "–"))
            continue
        runs = recipe.finished()
        accuracies = [spread([past.number(key) for past in runs]) for key in ("test/acc1", "val/acc1")]
        ece = spread([past.number("test/ece") for past in runs], 3, "", 1)
        known = [value for past in runs if not math.isnan(value := past.speed())]
        speed = spread([statistics.median(known)] if known else [], 0, "", 1)
        seeds = ", ".join(str(past.seed) for past in runs)
        recipes = str(sum(one.model == model for one in part.recipes))
        rows.append((model, part.dataset, *accuracies, ece, params, speed, seeds, recipes))
    return rows


def learning_curves(study: StoreSnapshot) -> list[Block]:
    """Draw accuracy, loss and learning rate per dataset, a color per recipe, and compare the recipes in a table."""
    blocks: list[Block] = []
    for part in study.parts:
        if not part.recipes:
            continue
        blocks.append(Heading(part.dataset))
        best = sorted(part.recipes, key=lambda one: -np.nan_to_num(one.mean("val/acc1"), nan=-1.0))
        colors = _colors(study, best)
        legend = [(charts.css_color(colors[one.label]), one.label) for one in best if colors[one.label] >= 0]
        gray = len(best) - len(legend)
        legend += [("var(--soft)", f"{gray} other recipe{'s' * (gray > 1)}")] if gray else []
        blocks.append(Figures(_curve_figures(part, best, colors), tuple(legend), layout="pairs"))
        if len(best) > 1:
            blocks.append(_recipe_table(best, colors))
    return blocks or [Text("The store holds models but no runs, so there are no curves.", "note")]


def _colors(study: StoreSnapshot, best: Sequence[Recipe]) -> dict[str, int]:
    """Give a recipe the same color in every dataset where colors suffice, else the best of this dataset their own."""
    labels = sorted({one.label for part in study.parts for one in part.recipes})
    if len(labels) > MAX_COLORED:
        labels = [one.label for one in best]
    return {label: i if i < MAX_COLORED else -1 for i, label in enumerate(labels)}


def _curve_figures(part: DatasetResults, recipes: Sequence[Recipe], colors: Mapping[str, int]) -> tuple[Figure, ...]:
    wanted = (
        ("val/acc1", "Validation accuracy", True),
        ("val/loss", "Validation loss", False),
        ("train/loss", "Training loss, mean of each epoch", False),
        ("lr", "Learning rate", False),
    )
    figures = []
    for key, title, is_share in wanted:
        lines = [line for one in reversed(recipes) if (line := _curve(one, key, colors[one.label])) is not None]
        if lines:
            drawn = charts.curves(lines, "", f"{part.dataset}-{key}", percent=is_share)
            figures.append(Figure(title, drawn))
    return tuple(figures)


def _curve(recipe: Recipe, key: str, color: int) -> charts.Curve | None:
    by_epoch: dict[float, list[float]] = {}
    for past in recipe.runs:
        own: dict[float, list[float]] = {}
        for epoch, value in zip(*past.curve(key), strict=True):
            own.setdefault(epoch if key.startswith("val/") else float(math.ceil(epoch)), []).append(value)
        for epoch, values in own.items():
            by_epoch.setdefault(epoch, []).append(statistics.mean(values))
    if not by_epoch:
        return None
    epochs = sorted(by_epoch)
    mean, low, high = (
        np.array([function(by_epoch[epoch]) for epoch in epochs], np.float64)
        for function in (statistics.mean, min, max)
    )
    return charts.Curve(np.array(epochs, np.float64), mean, low, high, color, dash=max(0, color))


def _recipe_table(recipes: Sequence[Recipe], colors: Mapping[str, int]) -> Table:
    names = list(dict.fromkeys(name for one in recipes for name in one.varied))
    rows = [
        (
            one.model,
            *(number(one.varied.get(name, one.runs[0].config.get(name, "–"))) for name in names),
            spread([past.number("val/acc1") for past in one.finished()]),
            spread([past.number("test/acc1") for past in one.finished()]),
            str(len(one.runs)),
        )
        for one in recipes
    ]
    keys = tuple(colors[one.label] for one in recipes)
    caption = "Recipes compared, by validation accuracy."
    return Table(("model", *names, "val accuracy", "test accuracy", "runs"), tuple(rows), caption=caption, keys=keys)
