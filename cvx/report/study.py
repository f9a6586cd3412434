"""What a store holds, gathered once for all sections: recipes with their runs, models with their look at samples."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cvx import records
from cvx.checkpoint import Card
from cvx.comparison import View, look
from cvx.records import Run
from cvx.store import ModelEntry, Samples, Store


@dataclasses.dataclass(frozen=True, eq=False)
class Past:
    """A run that can be read."""

    run: Run
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    """All of `config.json`."""
    summary: Mapping[str, Any] | None
    rows: Sequence[Mapping[str, Any]]

    @property
    def seed(self) -> int:
        """Return the seed it was started with."""
        return int(self.config.get("seed", 0))

    def curve(self, key: str) -> tuple[list[float], list[float]]:
        """Return epochs and values of a metric, those that are numbers."""
        found = [(row["epoch"], row[key]) for row in self.rows if row.get(key) is not None]
        return [epoch for epoch, _ in found], [value for _, value in found]

    def number(self, key: str) -> float:
        """Return a final number, or nan."""
        value = (self.summary or {}).get("metrics", {}).get(key)
        return float("nan") if value is None else float(value)

    def speed(self) -> float:
        """Return the median of images per second, or nan."""
        values = self.curve("time/images_per_s")[1]
        return statistics.median(values) if values else float("nan")


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """Runs whose configs differ in the seed alone."""

    dataset: str
    model: str
    label: str
    """The model, and those hyperparameters in which the dataset's recipes differ."""
    varied: Mapping[str, Any]
    runs: tuple[Past, ...]

    def finished(self) -> list[Past]:
        """Return the runs with final numbers."""
        return [past for past in self.runs if past.summary is not None]

    def mean(self, key: str) -> float:
        """Return the mean of a final number over the seeds, or nan."""
        values = [value for past in self.finished() if not np.isnan(value := past.number(key))]
        return statistics.mean(values) if values else float("nan")


@dataclasses.dataclass(frozen=True, eq=False)
class Looker:
    """A model's best version, with its look at the samples."""

    entry: ModelEntry
    card: Card
    view: View
    """The first samples, the score of the true class explained."""


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """All of one dataset."""

    dataset: str
    samples: Samples | None
    recipes: tuple[Recipe, ...]
    lookers: tuple[Looker, ...]

    def names(self) -> list[str]:
        """Name the models that look, shortly."""
        names = [one.card.model for one in self.lookers]
        full = [one.entry.name for one in self.lookers]
        return names if len(set(names)) == len(names) else full

    def judged(self) -> list[tuple[str, Past]]:
        """Name each model's run: that of its stored best version, or else the first of its best recipe."""
        pasts = {past.run.name: past for recipe in self.recipes for past in recipe.runs}
        pairs = zip(self.names(), self.lookers, strict=True)
        found = [(name, pasts[one.card.run]) for name, one in pairs if one.card.run in pasts]
        named = {past.config["model"] for _, past in found}
        for model in sorted({one.model for one in self.recipes} - named):
            if (recipe := self.best_recipe(model)) is not None:
                found.append((model, recipe.finished()[0]))
        return found

    def best_recipe(self, model: str) -> Recipe | None:
        """Return a model's recipe with the best mean validation accuracy, of those with a finished run."""
        own = [one for one in self.recipes if one.model == model and one.finished()]
        return max(own, key=lambda one: np.nan_to_num(one.mean("val/acc1"), nan=-1.0), default=None)


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """A store, read for a report."""

    store: Store
    parts: tuple[Part, ...]
    problems: tuple[str, ...]
    num: int
    device: torch.device
    defaults: Mapping[str, Any]
    """Hyperparameters that need no flag; all others are written into the commands."""
    show_progress: bool = False

    @property
    def runs(self) -> list[Past]:
        """Return all readable runs."""
        return [past for part in self.parts for recipe in part.recipes for past in recipe.runs]


def read(
    store: Store,
    num: int = 200,
    device: torch.device | str = "cpu",
    defaults: Mapping[str, Any] | None = None,
    show_progress: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Study:
    """Read all runs and let every model's best version look at the dataset's first `num` samples.

    What is broken or not done is named in `problems`, not left out in silence.

    Raises:
        ValueError: If the store holds no model and no run at all, or `num` is not positive.
    """
    if num < 1:
        raise ValueError(f"num must be 1 image or more, got {num}")
    problems: list[str] = []
    pasts = _pasts(store, problems)
    entries = _entries(store, problems)
    if not pasts and not entries:
        told = f" that can be read ({'; '.join(problems)})" if problems else " yet"
        raise ValueError(f"the store {store.root} holds no run and no model{told}; `python -m cvx starter` trains some")
    datasets = sorted({str(past.config["dataset"]) for past in pasts} | {card.dataset for _, card in entries})
    parts = []
    for dataset in datasets:
        own = [(entry, card) for entry, card in entries if card.dataset == dataset]
        samples, lookers = _lookers(store, own, num, torch.device(device), problems, tell)
        recipes = _recipes([past for past in pasts if past.config["dataset"] == dataset])
        parts.append(Part(dataset, samples, recipes, lookers))
    problems = [placeless(problem, store) for problem in problems]
    return Study(store, tuple(parts), tuple(problems), num, torch.device(device), defaults or {}, show_progress)


def placeless(text: str, store: Store) -> str:
    """Leave out where this machine keeps the store: the report may travel."""
    return text.replace(f"{store.root}/", "").replace(str(store.root), "the store")


def _pasts(store: Store, problems: list[str]) -> list[Past]:
    pasts = []
    for run in records.runs(store.root):
        try:
            facts, summary, rows = run.config, run.summary, run.rows()
            config = dict(facts["config"])
            pasts.append(
                Past(run, {"dataset": config["dataset"], "model": config["model"], **config}, facts, summary, rows)
            )
        except (ValueError, KeyError, TypeError, OSError) as error:
            problems.append(f"run {run.name} cannot be read: {error}")
            continue
        if summary is None:
            problems.append(f"run {run.name} is not done: its curves are shown, it has no final numbers")
    return pasts


def _entries(store: Store, problems: list[str]) -> list[tuple[ModelEntry, Card]]:
    found = []
    for entry in store.best():
        if entry.card is None:
            problems.append(f"model {entry.reference} cannot be read: {entry.error}")
        else:
            found.append((entry, entry.card))
    return found


def _lookers(
    store: Store,
    entries: Sequence[tuple[ModelEntry, Card]],
    num: int,
    device: torch.device,
    problems: list[str],
    tell: Callable[[str], None],
) -> tuple[Samples | None, tuple[Looker, ...]]:
    """Let the models look that share the samples of the newest of them; the others are named."""
    samples: Samples | None = None
    lookers = []
    for entry, card in sorted(entries, key=lambda pair: pair[1].created, reverse=True):
        try:
            own = store.samples(card.dataset, card.samples)
            samples = samples or own
            if own.fingerprint != samples.fingerprint:
                problems.append(
                    f"model {entry.reference} was trained on another state of {card.dataset}; it has no maps here"
                )
                continue
            tell(f"maps of {entry.reference}")
            few = samples.split.head(num)
            classifier = entry.load()[0].to(device)
            view = look(
                entry.reference,
                classifier,
                card,
                np.asarray(few.images),
                "label",
                np.array(few.labels),
                samples.classes,
            )
            lookers.append(Looker(entry, card, view))
        except (ValueError, OSError) as error:
            problems.append(f"model {entry.reference} cannot look at the samples: {error}")
    return samples, tuple(sorted(lookers, key=lambda one: one.entry.name))


def _recipes(pasts: Sequence[Past]) -> tuple[Recipe, ...]:
    groups: dict[str, list[Past]] = {}
    for past in pasts:
        key = json.dumps({name: value for name, value in past.config.items() if name != "seed"}, sort_keys=True)
        groups.setdefault(key, []).append(past)
    found = []
    for group in groups.values():
        config = group[0].config
        model = str(config["model"])
        varied = _varied(config, [one[0].config for one in groups.values() if one[0].config["model"] == model])
        label = " · ".join([model, *(f"{name} {number(value)}" for name, value in varied.items())])
        found.append(
            Recipe(str(config["dataset"]), model, label, varied, tuple(sorted(group, key=lambda one: one.seed)))
        )
    return tuple(sorted(found, key=lambda one: one.label))


def _varied(config: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [name for name in config if name != "seed"]
    return {name: config[name] for name in names if any(other.get(name) != config[name] for other in others)}


def number(value: Any) -> str:
    """Write a hyperparameter shortly."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
