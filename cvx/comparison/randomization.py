"""Sanity checks of maps: randomize weights or ask for another class, and compare with chance."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from cvx.attribution import METHODS, to_heatmap
from cvx.comparison.agreement import columns_of, next_image
from cvx.comparison.faithfulness import NUM_IMAGES, untrained
from cvx.comparison.per_model import Chunk, Values, compute_per_model, inputs_and_targets
from cvx.comparison.request import HERE, Models, Options, ResolvedModel, Runtime, resolve_models
from cvx.maps.explanation import Explanation, ImageExplainer
from cvx.metrics import randomization as cascading
from cvx.metrics.agreement import MapFeatures, compare, map_features
from cvx.metrics.bootstrap import Interval, interval
from cvx.metrics.control_maps import random_maps
from cvx.store import Store

SIMILARITIES = ("spearman", "spearman_signed", "ssim")
LEVELS = ("random", "other_image")
"""What is left is held against how alike the trained model's maps are to noise, and to its own of other images."""


@dataclass(frozen=True, eq=False)
class Sanity:
    """How much of models' maps is left when what they learned is taken away, block by block."""

    options: Options
    references: tuple[str, ...]
    columns: tuple[str, ...]
    found: Sequence[Values]

    names = SIMILARITIES
    levels = LEVELS

    def blocks(self, i: int) -> list[str]:
        """List the blocks in the order in which they are randomized, each on top of those before it."""
        return [key.split("/", 2)[2] for key in self.found[i] if key.startswith(f"after/{self.names[0]}/")]

    def after(self, i: int, name: str, block: str) -> Interval:
        """Return how alike the maps are to the trained model's once a block and all above it are randomized."""
        return interval(self.found[i][f"after/{name}/{block}"])

    def floor(self, i: int, name: str, kind: str) -> Interval:
        """Return how alike the trained model's maps are to one of LEVELS, which owe it nothing for the image."""
        return interval(self.found[i][f"floor/{name}/{kind}"])

    def entropy(self, i: int) -> Interval:
        """Return by how much of itself the maps' entropy rises when everything is randomized."""
        return interval(self.found[i]["entropy"])

    def class_sensitivity(self, i: int, name: str = "spearman_signed") -> Interval:
        """Return how alike the maps of the explained class and of the most probable other are: 1 is insensitive."""
        return interval(self.found[i][f"class/{name}"])

    def lead(self, i: int, kind: str, name: str = "spearman") -> Interval:
        """Return by how much more is left with all randomized than one of LEVELS has, image by image."""
        left = self.found[i][f"after/{name}/{self.blocks(i)[-1]}"]
        return interval(left - self.found[i][f"floor/{name}/{kind}"])

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per model and number."""
        rows = []
        for i, reference in enumerate(self.references):
            for key in self.found[i]:
                test, _, rest = key.partition("/")
                name, _, block = rest.partition("/")
                one = interval(self.found[i][key])
                told = {"model": reference, "test": test, "measure": name or "entropy", "block": block}
                rows.append({**told, **asdict(one)})
        return rows

    def verdict(self, i: int) -> str:
        """Say whether the maps depend on the weights and on the class, with the numbers.

        No threshold is chosen: what is left counts as something where it exceeds what noise has, image by image, and
        as little where the maps of another image have more; each by a 95 % interval of the mean difference.
        """
        blocks, column = self.blocks(i), self.columns[i]
        first, last = (self.after(i, "spearman", block) for block in (blocks[0], blocks[-1]))
        if not last.num:
            return f"{column}: no map is left to compare; they are zero, or the same everywhere."
        noise, other = (self.floor(i, "spearman", kind).text() for kind in LEVELS)
        signed, classes = self.after(i, "spearman_signed", blocks[-1]), self.class_sensitivity(i)
        return (
            f"{column}: with {blocks[0]} randomized the maps agree with the trained model's to {first.text()}, with all"
            f" {len(blocks)} blocks to {last.text()} (Spearman, magnitude, {last.num} images; signed {signed.text()});"
            f" noise agrees to {noise}, maps of other images to {other}: {self._judged(i)}. Their entropy changes by"
            f" {self.entropy(i).text()} of itself. The maps of the class and of the runner-up agree to"
            f" {classes.text()} (signed; 1 would be blind to the class)."
        )

    def _judged(self, i: int) -> str:
        """Put in words what is left of the magnitudes once everything is randomized."""
        noise, other = (self.lead(i, kind) for kind in LEVELS)
        if not noise.low > 0:
            return "no more is left than noise has, so which pixels are strong comes from what the model learned"
        part = "more is left than noise has, so which pixels are strong comes in part from architecture and image alone"
        if other.high < 0:
            return f"{part}; but less than maps of two images share: to lose the training changes a map more than that"
        return f"{part}; no less than maps of two images share: to lose the training changes a map no more than that"


def sanity(store: Store, models: Models, options: Options | None = None, runtime: Runtime = HERE) -> Sanity:
    """Randomize each model block by block, from the output, and see what is left of its maps.

    Raises:
        ValueError: As `agreement`, but one model is enough.
    """
    options = options or Options(num=NUM_IMAGES)
    asked = resolve_models(store, models, options, runtime.data_root)
    found = compute_per_model(store, "sanity", asked, options, _randomize, runtime, times=2)
    return Sanity(options, tuple(one.reference for one in asked), columns_of(asked), found)


def _randomize(asked: ResolvedModel, explain: ImageExplainer, options: Options) -> Chunk:
    classifier = explain.classifier
    device = next(classifier.parameters()).device
    blank = untrained(classifier, options.seed).to(device)
    one_by_one = METHODS[options.method]  # a model that changes with every block has no use for a folded copy

    def chunk(view: Explanation, rows: slice) -> Values:
        inputs, targets = inputs_and_targets(view, classifier)
        own, last = map_features(view.attribution), view.attribution
        values: Values = {}
        for block, last in cascading.cascade(classifier, blank, inputs, targets, options.score, one_by_one):
            values |= _likeness(f"after/{{}}/{block}", own, last)
        values["entropy"] = cascading.entropy_rise(*(to_heatmap(one, "max") for one in (view.attribution, last)))
        second = cascading.runners_up(torch.tensor(view.logits, device=device), targets)
        values |= _likeness("class/{}", own, explain.explainer(inputs, second)[1].cpu().numpy())
        noise = random_maps(np.asarray(asked.split.ids[rows]), view.attribution.shape[1:], options.seed)
        values |= _likeness("floor/{}/random", own, noise)
        return values | _likeness("floor/{}/other_image", own, next_image(view.attribution))

    return chunk


def _likeness(key: str, own: MapFeatures, others: np.ndarray) -> dict[str, Float64[np.ndarray, "n"]]:
    return {key.format(name): one for name, one in compare(own, map_features(others), SIMILARITIES).items()}
