"""The sections of numbers: what was trained, learning curves, sweeps, how to reproduce."""

import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvx.files import read_json
from cvx.report import plots
from cvx.report.blocks import (
    Block,
    Command,
    Figure,
    Figures,
    Heading,
    Table,
    Text,
    png_uri,
)
from cvx.report.snapshot import Part, Past, Recipe, Study, number, placeless

MAX_COLORED = 8
"""Recipes that get a color; the others are gray."""
MAX_TRIALS = 12


def spread(values: Sequence[float], digits: int = 2, unit: str = " %", factor: float = 100.0) -> str:
    """Write the mean, and the smallest and largest in brackets where there are several."""
    known = [factor * value for value in values if not math.isnan(value)]
    if not known:
        return "–"
    mean = f"{statistics.mean(known):.{digits}f}{unit}"
    return mean if len(known) == 1 else f"{mean} [{min(known):.{digits}f}, {max(known):.{digits}f}]"


def what_was_trained(study: Study) -> list[Block]:
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


def _model_rows(part: Part) -> list[tuple[str, ...]]:
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


def learning_curves(study: Study) -> list[Block]:
    """Draw accuracy, loss and learning rate per dataset, a color per recipe, and compare the recipes in a table."""
    blocks: list[Block] = []
    for part in study.parts:
        if not part.recipes:
            continue
        blocks.append(Heading(part.dataset))
        best = sorted(part.recipes, key=lambda one: -np.nan_to_num(one.mean("val/acc1"), nan=-1.0))
        colors = _colors(study, best)
        legend = [(plots.css_color(colors[one.label]), one.label) for one in best if colors[one.label] >= 0]
        gray = len(best) - len(legend)
        legend += [("var(--soft)", f"{gray} other recipe{'s' * (gray > 1)}")] if gray else []
        blocks.append(Figures(_curve_figures(part, best, colors), tuple(legend), layout="pairs"))
        if len(best) > 1:
            blocks.append(_recipe_table(best, colors))
    return blocks or [Text("The store holds models but no runs, so there are no curves.", "note")]


def _colors(study: Study, best: Sequence[Recipe]) -> dict[str, int]:
    """Give a recipe the same color in every dataset where colors suffice, else the best of this dataset their own."""
    labels = sorted({one.label for part in study.parts for one in part.recipes})
    if len(labels) > MAX_COLORED:
        labels = [one.label for one in best]
    return {label: i if i < MAX_COLORED else -1 for i, label in enumerate(labels)}


def _curve_figures(part: Part, recipes: Sequence[Recipe], colors: Mapping[str, int]) -> tuple[Figure, ...]:
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
            drawn = plots.curves(lines, "", f"{part.dataset}-{key}", percent=is_share)
            figures.append(Figure(title, drawn))
    return tuple(figures)


def _curve(recipe: Recipe, key: str, color: int) -> plots.Curve | None:
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
    return plots.Curve(np.array(epochs, np.float64), mean, low, high, color, dash=max(0, color))


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


def sweeps(study: Study) -> list[Block]:
    """Show what the sweeps in the store found."""
    blocks: list[Block] = []
    for file in sorted((study.store.root / "sweeps").glob("*/result.json")):
        try:
            content = read_json(file)
            blocks += _sweep(content, file.parent)
        except (ValueError, KeyError, TypeError, OSError) as error:
            told = placeless(f"sweep {file.parent.name} cannot be read: {error}", study.store)
            blocks.append(Text(told, "problem"))
    return blocks


def _sweep(content: Mapping[str, Any], folder: Any) -> list[Block]:
    metric, names, trials = content["metric"], list(content["parameters"]), list(content["trials"])
    told = f"{len(trials)} trials, {content['method']}"
    told += f", {metric['goal'][:-1]}ing {metric['name']}" if metric else ""
    blocks: list[Block] = [Heading(str(content["name"]), told)]
    titles = {"parallel_coordinates.png": "Every trial", "importance.png": "What went with the score"}
    pictures = [(title, folder / name) for name, title in titles.items() if (folder / name).is_file()]
    if pictures:
        figures = tuple(Figure(title, uri=png_uri(path.read_bytes())) for title, path in pictures)
        blocks.append(Figures(figures, layout="wide"))
    blocks += _trial_table(metric, names, trials)
    if content.get("command"):
        blocks += [Text("The best trial again:"), Command(_without_places(str(content["command"])))]
    return blocks


def _trial_table(metric: Mapping[str, Any] | None, names: Sequence[str], trials: Sequence[Any]) -> list[Block]:
    """List the best trials, best first; none where no trial has a value."""
    scored = [one for one in trials if one.get("value") is not None]
    sign = -1 if metric and metric["goal"] == "maximize" else 1
    best = sorted(scored, key=lambda one: sign * one["value"])[:MAX_TRIALS]
    if not best:
        return []
    rows = [
        (
            str(one["number"]),
            *(number(one["values"].get(name, "–")) for name in names),
            number(float(one["value"])),
            str(one["status"]),
        )
        for one in best
    ]
    caption = f"The best {len(rows)} of {len(trials)} trials." if len(rows) < len(trials) else ""
    title = metric["name"] if metric else "value"
    return [Table(("trial", *names, title, "status"), tuple(rows), caption=caption)]


def _without_places(line: str) -> str:
    """Leave out where this machine keeps its store and its data: the page may travel."""
    return shlex.join(part for part in shlex.split(line) if not part.startswith(("--artifacts=", "--data=")))


def reproduce(study: Study) -> list[Block]:
    """Give the command of every model's best recipe, and what it was run with."""
    blocks: list[Block] = []
    for part in study.parts:
        for model in sorted({one.model for one in part.recipes}):
            recipe = part.best_recipe(model)
            if recipe is not None:
                seeds = [past.seed for past in recipe.finished()]
                again = f" Seeds {', '.join(map(str, seeds))}: change --seed." if len(seeds) > 1 else ""
                blocks.append(Text(f"{recipe.label} on {part.dataset}.{again}"))
                blocks.append(Command(command(recipe.finished()[0], study.defaults)))
    blocks += [Text("This page again, from the same store:"), Command(study.again)]
    return [*blocks, *_made_with(study.runs)]


def command(past: Past, defaults: Mapping[str, Any]) -> str:
    """Write the command that trains a run again: every hyperparameter that is not at its default."""
    needed = {name: value for name, value in past.config.items() if name not in defaults or defaults[name] != value}
    needed = {"dataset": past.config["dataset"], "model": past.config["model"], **needed, "seed": past.seed}
    return shlex.join(["python", "-m", "cvx", "train", *(f"--{name}={value}" for name, value in needed.items())])


def _made_with(pasts: Sequence[Past]) -> list[Block]:
    if not pasts:
        return []
    groups: dict[str, list[str]] = {}
    for past in pasts:
        versions = past.facts.get("versions", {})
        told = {
            "commit": past.facts.get("git_commit") or "unknown",
            **versions,
            "precision": past.facts.get("precision", "–"),
        }
        for name, value in told.items():
            groups.setdefault(name, []).append(str(value))
    rows = tuple((name, ", ".join(dict.fromkeys(values))) for name, values in groups.items())
    return [
        Table(
            ("made with", "versions"),
            rows,
            num_names=2,
            wrap=True,
            caption=f"All that the {len(pasts)} runs were made with.",
        )
    ]
