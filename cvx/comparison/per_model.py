"""Measures of one model's maps: their shape, their share on masks, their stability."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from cvx.attribution import to_heatmap
from cvx.comparison.agreement import columns_of, view_of
from cvx.comparison.request import HERE, Models, Options, ResolvedModel, Runtime, resolve_models
from cvx.comparison.result_cache import cache_key, load_cached, save_cached
from cvx.data.batches import to_inputs
from cvx.maps.explanation import Explanation, ImageExplainer
from cvx.metrics import complexity
from cvx.metrics.bootstrap import Interval, interval
from cvx.metrics.localization import MEASURES as PLACES
from cvx.metrics.localization import chance, localize
from cvx.metrics.sensitivity import NUM_DRAWS, max_sensitivity
from cvx.models import Classifier
from cvx.progress import Ticks, ticking
from cvx.store import Store

Values = dict[str, np.ndarray]
TABLE_WORDS = {
    "pointing": "share of images whose strongest pixel lies on the mask",
    "mass": "share of the map that lies on the mask",
    "rank": "share of the mask among as many of the strongest pixels",
    "auc": "chance that a pixel on the mask outranks one off it",
    "gini": "concentration: 0 even, 1 one pixel",
    "entropy": "evenness: 1 even, 0 one pixel",
    "center_bias": "mean distance from the center over a uniform map's: below 1 is central",
    "frequency": "mean spatial frequency, 1 is the finest along an axis",
    "mass_on_mask": "share of the map that lies on the mask",
    "max_sensitivity": "largest relative change under noise of 0.02: 0 is steady",
}


@dataclass(frozen=True, eq=False)
class ModelTable:
    """Measures of single models, with what chance gives where that is known."""

    kind: str
    options: Options
    references: tuple[str, ...]
    columns: tuple[str, ...]
    datasets: tuple[str, ...]
    names: tuple[str, ...]
    values: Mapping[str, Sequence[Float64[np.ndarray, "_"]]]
    """By measure, one array per model; the models of different datasets differ in images."""
    chances: Mapping[str, Sequence[Float64[np.ndarray, "_"]]]
    """Likewise, per image, of the measures that have a chance level."""

    def interval(self, name: str, i: int) -> Interval:
        """Return a model's mean over its images."""
        return interval(self.values[name][i])

    def chance(self, name: str, i: int) -> float:
        """Return what a map that knows nothing scores on the images that count; nan where that says nothing."""
        if name not in self.chances:
            return float("nan")
        known = self.chances[name][i][~np.isnan(self.values[name][i])]
        return float(known.mean()) if len(known) else float("nan")

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per model and measure."""
        return [self._row(name, i) for i in range(len(self.references)) for name in self.names]

    def _row(self, name: str, i: int) -> dict[str, Any]:
        found = self.interval(name, i)
        return {
            "dataset": self.datasets[i],
            "model": self.references[i],
            "measure": name,
            **asdict(found),
            "chance": self.chance(name, i),
        }


def localization(store: Store, models: Models, options: Options | None = None, runtime: Runtime = HERE) -> ModelTable:
    """Score how much of each model's maps lies on what decides the class.

    Raises:
        ValueError: If the images of a model have no masks, or as `agreement`.
    """
    options = options or Options()
    asked = resolve_models(store, models, options, runtime.data_root)
    check_masked(asked)
    found = compute_per_model(store, "maps", asked, options, _maps, runtime)
    return _table("localization", asked, options, PLACES, found)


def check_masked(asked: Sequence[ResolvedModel]) -> None:
    """Refuse models of images without masks.

    Raises:
        ValueError: If there is one; the message names it.
    """
    if without := [one.reference for one in asked if one.split.masks is None]:
        raise ValueError(
            f"the images of {', '.join(without)} have no masks, so nobody knows where a map should lie;"
            " shapes32 and shapes64 have them"
        )


def properties(store: Store, models: Models, options: Options | None = None, runtime: Runtime = HERE) -> ModelTable:
    """Describe each model's maps by numbers that mean the same for every dataset.

    Raises:
        ValueError: As `agreement`, but one model is enough.
    """
    options = options or Options()
    asked = resolve_models(store, models, options, runtime.data_root)
    found = compute_per_model(store, "maps", asked, options, _maps, runtime)
    for one in found:
        one["mass_on_mask"] = one["mass"]
        one["chance/mass_on_mask"] = one["chance/mass"]
    names = (*complexity.MEASURES, "mass_on_mask")
    return _table("properties", asked, options, names, found)


def stability(store: Store, models: Models, options: Options | None = None, runtime: Runtime = HERE) -> ModelTable:
    """Measure how much each model's maps change under a little noise.

    Raises:
        ValueError: As `agreement`, but one model is enough.
    """
    options = options or Options(num=100)
    asked = resolve_models(store, models, options, runtime.data_root)
    found = compute_per_model(store, "stability", asked, options, _steadiness, runtime, times=2 + NUM_DRAWS)
    return _table("stability", asked, options, ("max_sensitivity",), found)


def _table(
    kind: str, asked: Sequence[ResolvedModel], options: Options, names: Sequence[str], found: Sequence[Values]
) -> ModelTable:
    chances = {name: [one[f"chance/{name}"] for one in found] for name in names if f"chance/{name}" in found[0]}
    return ModelTable(
        kind=kind,
        options=options,
        references=tuple(one.reference for one in asked),
        columns=columns_of(asked),
        datasets=tuple(one.card.dataset for one in asked),
        names=tuple(names),
        values={name: [one[name] for one in found] for name in names},
        chances=chances,
    )


Chunk = Callable[[Explanation, slice], Values]
"""Computes what is measured of some of a model's images; arrays whose first axis is the images."""
Measure = Callable[[ResolvedModel, ImageExplainer, Options], Chunk]
"""Prepares, once for a model, what is then computed chunk by chunk."""


def compute_per_model(
    store: Store,
    kind: str,
    asked: Sequence[ResolvedModel],
    options: Options,
    measure: Measure,
    runtime: Runtime,
    times: int = 1,
) -> list[Values]:
    """Return what is kept of each model, and compute and keep the rest.

    Args:
        times: How often the measure explains each image.
    """
    found = {one.reference: load_cached(store, kind, cache_key(one, options)) for one in asked}
    missing = [one for one in asked if found[one.reference] is None]
    total = sum(len(list(one.chunks())) for one in missing)
    with ticking(total, runtime.show_progress) as ticks:
        for one in missing:
            ticks.tell(f"{kind} of {one.reference}")
            with one.explainer(torch.device(runtime.device), options, times) as explain:
                computed = _compute(one, explain, measure(one, explain, options), ticks)
            found[one.reference] = computed
            save_cached(store, kind, cache_key(one, options), computed)
    return [values for one in asked if (values := found[one.reference]) is not None]


def _compute(asked: ResolvedModel, explain: ImageExplainer, chunk: Chunk, ticks: Ticks) -> Values:
    parts = []
    for rows in asked.chunks():
        parts.append(chunk(view_of(asked, explain, rows), rows))
        ticks.tick()
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def inputs_of(view: Explanation, device: torch.device) -> Float[Tensor, "n c h w"]:
    """Return a look's images as a model takes them."""
    return to_inputs(torch.tensor(view.images, device=device)).contiguous()


def inputs_and_targets(
    view: Explanation, classifier: Classifier
) -> tuple[Float[Tensor, "n c h w"], Int64[Tensor, "n"]]:
    """Return a look's images as its model takes them, and the classes that were explained, where the model is."""
    device = next(classifier.parameters()).device
    return inputs_of(view, device), torch.tensor(view.targets, device=device)


def _maps(asked: ResolvedModel, explain: ImageExplainer, options: Options) -> Chunk:
    def chunk(view: Explanation, rows: slice) -> Values:
        maps = to_heatmap(view.attribution, "max")
        if asked.split.masks is None:
            nothing = np.full(len(maps), np.nan)
            places = expected = dict.fromkeys(PLACES, nothing)
        else:
            masks = np.asarray(asked.split.masks[rows])
            places, expected = localize(maps, masks), chance(masks)
        return {**complexity.describe(maps), **places, **{f"chance/{name}": one for name, one in expected.items()}}

    return chunk


def _steadiness(asked: ResolvedModel, explain: ImageExplainer, options: Options) -> Chunk:
    def again(
        _model: object, inputs: Tensor, targets: Tensor, _score: str, slack: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        return explain.explainer(inputs, targets, slack)

    def chunk(view: Explanation, rows: slice) -> Values:
        inputs, targets = inputs_and_targets(view, explain.classifier)
        values = max_sensitivity(explain.classifier, inputs, targets, options.score, seed=options.seed, explain=again)
        return {"max_sensitivity": values}

    return chunk
