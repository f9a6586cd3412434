"""Faithfulness of maps: remove the pixels that they rank first and compare with controls."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from cvx import models
from cvx.attribution import Explainer, to_heatmap
from cvx.comparison.agreement import columns_of
from cvx.comparison.per_model import Chunk, Values, compute_per_model, inputs_and_targets
from cvx.comparison.request import HERE, Models, Options, ResolvedModel, Runtime, resolve_models
from cvx.maps.explanation import Explanation, ImageExplainer
from cvx.metrics import faithfulness as removal
from cvx.metrics.bootstrap import Interval, interval
from cvx.metrics.control_maps import blurred, random_maps, sobel
from cvx.models import Classifier
from cvx.store import Store

MAPS = ("own", "random", "sobel", "blurred", "randomized_model")
"""The model's maps, and the controls: noise, edges, its own maps blurred, and those of an untrained model."""
NUM_IMAGES = 50
UNTRAINED = 10**9
"""Added to seeds: runs start from small ones, and a run's own first weights would be no control for it."""
ASLEEP = 1e-3
"""Weights no larger than this keep what they scale out of an untrained model."""


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """What models say while pixels are taken out in a map's order, beside the orders of maps that know nothing."""

    options: Options
    references: tuple[str, ...]
    columns: tuple[str, ...]
    curves: Sequence[Mapping[tuple[str, str], Float64[np.ndarray, "n s"]]]
    """Per model, by test and map: the probability of the explained class, per image."""

    maps = MAPS
    tests = removal.TESTS

    def shares(self, test: str) -> Float64[np.ndarray, "s"]:
        """Return the shares of the pixels at which a test looks."""
        return removal.shares(test)

    def better(self, test: str) -> str:
        """Return whether a `lower` or a `higher` area is better."""
        return removal.BETTER[test]

    def curve(self, i: int, test: str, map_name: str) -> Float64[np.ndarray, "s"]:
        """Return the mean over images; nan where no map orders anything."""
        rows = self.curves[i][test, map_name]
        rows = rows[~np.isnan(rows).any(axis=1)]
        return rows.mean(axis=0) if len(rows) else np.full(len(self.shares(test)), np.nan)

    def interval(self, i: int, test: str, map_name: str) -> Interval:
        """Return the area under the curve."""
        return interval(removal.area(self.curves[i][test, map_name], test))

    def lead(self, i: int, test: str, map_name: str) -> Interval:
        """Return by how much the model's own maps are better than others, image by image; above 0 is better."""
        own, other = (removal.area(self.curves[i][test, one], test) for one in ("own", map_name))
        return interval(own - other if removal.BETTER[test] == "higher" else other - own)

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per model, test and map."""
        return [
            self._row(i, test, one) for i in range(len(self.references)) for test in self.tests for one in self.maps
        ]

    def _row(self, i: int, test: str, map_name: str) -> dict[str, Any]:
        found = self.interval(i, test, map_name)
        return {
            "model": self.references[i],
            "test": test,
            "map": map_name,
            **asdict(found),
            "better": removal.BETTER[test],
        }

    def verdict(self, i: int) -> str:
        """Say against which controls the model's maps win, and in how many of the tests."""
        lines = []
        for control in MAPS[1:]:
            leads = {test: self.lead(i, test, control) for test in self.tests}
            won = sum(lead.low > 0 for lead in leads.values())
            lost = sum(lead.high < 0 for lead in leads.values())
            lines.append(f"{control.replace('_', ' ')} {won} won, {lost} lost")
        num = len(self.tests)
        return (
            f"{self.columns[i]}: of {num} removal tests, against {'; '.join(lines)}; the rest lie within chance"
            " (95 % interval of the difference, image by image)."
        )


def faithfulness(store: Store, models: Models, options: Options | None = None, runtime: Runtime = HERE) -> Faithfulness:
    """Take pixels out in the order of each model's maps, and of maps that know nothing.

    Raises:
        ValueError: As `agreement`, but one model is enough.
    """
    options = options or Options(num=NUM_IMAGES)
    asked = resolve_models(store, models, options, runtime.data_root)
    found = compute_per_model(store, "faithfulness", asked, options, _remove, runtime)
    keys = [(test, one) for test in removal.TESTS for one in MAPS]
    curves = [{key: values["/".join(key)] for key in keys} for values in found]
    return Faithfulness(options, tuple(one.reference for one in asked), columns_of(asked), curves)


def _remove(asked: ResolvedModel, explain: ImageExplainer, options: Options) -> Chunk:
    classifier, num = explain.classifier, len(asked.split)
    blank = untrained(classifier, options.seed).to(next(classifier.parameters()).device)
    explain_blank = Explainer(blank, num, options.score, options.method)

    def chunk(view: Explanation, rows: slice) -> Values:
        inputs, targets = inputs_and_targets(view, classifier)
        own = to_heatmap(view.attribution, "max")
        ids = np.asarray(asked.split.ids[rows])
        maps = {
            "own": own,
            "random": np.abs(random_maps(ids, (1, *own.shape[1:]), options.seed)[:, 0]),
            "sobel": sobel(view.images),
            "blurred": blurred(own),
            "randomized_model": to_heatmap(explain_blank(inputs, targets)[1].cpu().numpy(), "max"),
        }
        return {
            f"{test}/{name}": removal.curves(classifier, inputs, targets, one, test, options.seed)
            for test in removal.TESTS
            for name, one in maps.items()
        }

    return chunk


def untrained(classifier: Classifier, seed: int) -> Classifier:
    """Build a model of the same architecture with random weights; the process's random state is left alone.

    Weights that training would start from at or near zero, as the last norm of a residual branch, LayerScale or a
    head, are set to one or drawn: with them the branches would be off and the maps those of the shortcuts alone.
    """
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(UNTRAINED + seed)
        blank = models.build(**{**classifier.build_args, "pretrained": False}).eval().of(*classifier.takes)
        for name, weight in blank.named_parameters():
            if name.endswith("bias") or float(weight.abs().max()) > ASLEEP:
                continue
            if weight.ndim > 1:
                torch.nn.init.trunc_normal_(weight, std=0.02)
            else:
                weight.fill_(1)
    return blank
