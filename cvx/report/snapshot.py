"""A snapshot of a store that all sections read: recipes with their runs, models with their explained samples."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cvx.comparison import LoadedModels, MapConvergence, Models, Runtime, through_training
from cvx.data.dataset_types import NUM_FILM
from cvx.maps.explanation import Explanation
from cvx.report.affordable_measures import Afforded
from cvx.store import ModelEntry, Store
from cvx.store.checkpoint import Card
from cvx.store.runs import Run
from cvx.store.store import Samples


@dataclasses.dataclass(frozen=True, eq=False)
class RunRecord:
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
    runs: tuple[RunRecord, ...]

    def finished(self) -> list[RunRecord]:
        """Return the runs with final numbers."""
        return [past for past in self.runs if past.summary is not None]

    def mean(self, key: str) -> float:
        """Return the mean of a final number over the seeds, or nan."""
        values = [value for past in self.finished() if not np.isnan(value := past.number(key))]
        return statistics.mean(values) if values else float("nan")


@dataclasses.dataclass(frozen=True, eq=False)
class ExplainedModel:
    """A model's best version, with its look at the samples."""

    entry: ModelEntry
    card: Card
    view: Explanation
    """The first samples, the score of the true class explained."""
    pass_s: float = 0.0
    """Seconds that one gradient of one image took."""


@dataclasses.dataclass(frozen=True, eq=False)
class DatasetResults:
    """All of one dataset."""

    dataset: str
    samples: Samples | None
    recipes: tuple[Recipe, ...]
    lookers: tuple[ExplainedModel, ...]
    models: Models = ()
    """The same models as measures take them, their images and weights shared by all sections; the references where
    their images cannot be had."""
    _settled: dict[str, MapConvergence | None] = dataclasses.field(default_factory=dict)

    def settling(self, past: RunRecord) -> MapConvergence | None:
        """Return how a run's maps settle, and where they lie if masks are known; None without a film.

        Raises:
            ValueError: If a frame is damaged.
        """
        if past.run.name not in self._settled:
            masks = None if self.samples is None else self.samples.split.head(NUM_FILM).masks
            self._settled[past.run.name] = through_training(past.run, None if masks is None else np.asarray(masks))
        return self._settled[past.run.name]

    def mask_share(self) -> float:
        """Return the mean share of the film's images that masks cover, nan without masks: what chance scores."""
        masks = None if self.samples is None else self.samples.split.head(NUM_FILM).masks
        return float("nan") if masks is None else float(np.asarray(masks).mean())

    def names(self) -> list[str]:
        """Name the models that look, shortly."""
        names = [one.card.model for one in self.lookers]
        full = [one.entry.name for one in self.lookers]
        return names if len(set(names)) == len(names) else full

    def judged(self) -> list[tuple[str, RunRecord]]:
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
class StoreSnapshot:
    """A store, read for a report."""

    store: Store
    parts: tuple[DatasetResults, ...]
    problems: tuple[str, ...]
    num: int
    device: torch.device
    defaults: Mapping[str, Any]
    """Hyperparameters that need no flag; all others are written into the commands."""
    show_progress: bool = False
    again: str = "python -m cvx report"
    """The command that makes the page anew."""
    often: Mapping[tuple[str, str], Afforded] = dataclasses.field(default_factory=dict)
    """By measure and dataset, what is shown of the measures that ask a model many times per image."""
    loaded: LoadedModels = dataclasses.field(default_factory=LoadedModels)
    """The models' weights, each loaded once as long as they fit into its bound."""

    @property
    def runtime(self) -> Runtime:
        """Return where measures are computed."""
        return Runtime(device=self.device, show_progress=self.show_progress)

    @property
    def runs(self) -> list[RunRecord]:
        """Return all readable runs."""
        return [past for part in self.parts for recipe in part.recipes for past in recipe.runs]


def placeless(text: str, store: Store) -> str:
    """Leave out where this machine keeps the store: the report may travel."""
    return text.replace(f"{store.root}/", "").replace(str(store.root), "the store")


def number(value: Any) -> str:
    """Write a hyperparameter shortly."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
