"""The result of comparing models pair by pair, its conditions, and the sentences that state it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from cvx.comparison.request import Options
from cvx.metrics.agreement import TOP_SHARE
from cvx.metrics.bootstrap import Interval, decimal, interval

CONDITIONS = ("all", "both_right", "disagree")
"""Images that count: all, those that both models classify rightly, or those they classify differently."""
FLOORS = ("sobel", "random", "other_image")
"""What a model's maps are compared with that has nothing to do with another model's: the edges of the image,
noise, and its own maps of other images."""
AGREEMENT_WORDS = {
    "spearman": ("Spearman, magnitude", "whether the same pixels matter, in the same order"),
    "spearman_signed": ("Spearman, signed", "whether they matter in the same direction, too"),
    "cosine": ("cosine", "the angle between the signed gradients, all channels"),
    "topk": (f"top {TOP_SHARE:.0%}".replace("%", " %"), f"what the strongest pixels share; chance is {TOP_SHARE:g}"),
    "ssim": ("SSIM", "local structure of the magnitudes; sparse maps score high before they agree"),
    "hog": ("HOG", "like shapes, not like pixels"),
}
WHY_NOT_PIXELWISE = (
    "Models of different datasets never see the same image, so there is no pixel of the one map to hold against a"
    " pixel of the other; what can be compared is what each map is like by itself: how concentrated, how central,"
    " how fine it is, and, where masks are known, how much of it lies on them."
)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Every pair of models on the same images."""

    dataset: str
    options: Options
    references: tuple[str, ...]
    columns: tuple[str, ...]
    """Short names for tables."""
    names: tuple[str, ...]
    """The measures, a part of MEASURES."""
    ids: Int64[np.ndarray, "n"]
    labels: Int64[np.ndarray, "n"]
    preds: Int64[np.ndarray, "m n"]
    """As indices into `classes`; -1 for a class that the images do not have."""
    cka: Float64[np.ndarray, "m m"]
    """How alike the models arrange the images by their logits (`cvx.embedding.cka`)."""
    classes: tuple[str, ...]
    values: Mapping[str, Float64[np.ndarray, "m m n"]]
    """Per image, symmetric; nan where a map is the same everywhere."""
    ceilings: Mapping[str, Float64[np.ndarray, "m n"]]
    """Agreement with the same recipe trained from other seeds, the mean over them; nan where the store has none."""
    siblings: tuple[tuple[str, ...], ...]
    """The models that the ceiling is made of."""
    floors: Mapping[tuple[str, str], Float64[np.ndarray, "m n"]]
    """By measure and one of FLOORS."""

    def mask(self, i: int, j: int, condition: str = "all") -> Bool[np.ndarray, "n"]:
        """Tell which images a condition takes."""
        if condition not in CONDITIONS:
            raise ValueError(f"unknown condition {condition!r}; known: {', '.join(CONDITIONS)}")
        if condition == "all":
            return np.ones(len(self.labels), dtype=bool)
        if condition == "disagree":
            return self.preds[i] != self.preds[j]
        return (self.preds[i] == self.labels) & (self.preds[j] == self.labels)

    def interval(self, name: str, i: int, j: int, condition: str = "all") -> Interval:
        """Return the mean agreement of two models over the images that the condition takes."""
        return interval(self.values[name][i, j][self.mask(i, j, condition)])

    def matrix(self, name: str, condition: str = "all") -> Float64[np.ndarray, "m m"]:
        """Return the mean agreement of every pair; nan where no image counts."""
        num = len(self.references)
        return np.array([[self.interval(name, i, j, condition).mean for j in range(num)] for i in range(num)])

    def ceiling(self, name: str, i: int) -> Interval | None:
        """Return how well a model agrees with its own recipe's other seeds; None where the store has none."""
        return interval(self.ceilings[name][i]) if self.siblings[i] else None

    def floor(self, name: str, i: int, kind: str) -> Interval:
        """Return a model's agreement with maps that know nothing of another model."""
        return interval(self.floors[name, kind][i])

    def pairs(self) -> list[tuple[int, int]]:
        """List every pair once."""
        num = len(self.references)
        return [(i, j) for i in range(num) for j in range(i + 1, num)]

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row per pair, measure and condition; ceilings and floors are the two models' mean."""
        return [
            self._row(name, i, j, condition) for name in self.names for i, j in self.pairs() for condition in CONDITIONS
        ]

    def _row(self, name: str, i: int, j: int, condition: str) -> dict[str, Any]:
        found = self.interval(name, i, j, condition)
        both = [one.mean for one in (self.ceiling(name, i), self.ceiling(name, j)) if one is not None and one.num]
        floors = {f"floor_{kind}": np.mean([self.floor(name, one, kind).mean for one in (i, j)]) for kind in FLOORS}
        return {
            "dataset": self.dataset,
            "measure": name,
            "first": self.references[i],
            "second": self.references[j],
            "condition": condition,
            **asdict(found),
            "ceiling": float(np.mean(both)) if both else float("nan"),
            **{kind: float(value) for kind, value in floors.items()},
        }

    def most_different(self, i: int, j: int, name: str = "spearman", k: int = 12) -> Int64[np.ndarray, "_"]:
        """Return the rows of the images on which two models are least alike; undefined ones are left out."""
        values = self.values[name][i, j]
        order = np.argsort(values, kind="stable")
        return order[: min(k, int((~np.isnan(values)).sum()))].astype(np.int64)

    def sentence(self, i: int, j: int, name: str = "spearman") -> str:
        """Say what was found about two models, with what it must be held against."""
        title, found = AGREEMENT_WORDS[name][0], self.interval(name, i, j)
        if not found.num:
            return f"{self.columns[i]} and {self.columns[j]}: no image on which {title} is defined."
        parts = [f"{self.columns[i]} and {self.columns[j]} agree to {found.text()} ({title}, {found.num} images)"]
        for one in dict.fromkeys((i, j)):
            if (top := self.ceiling(name, one)) is not None:
                num = len(self.siblings[one])
                seeds = f"{num} other seed{'s' * (num > 1)}"
                parts.append(f"{self.columns[one]} agrees with {seeds} of the same recipe to {top.text()}")
        edges, other = (self._highest(name, (i, j), kind) for kind in ("sobel", "other_image"))
        own = f"with their own maps of other images to at most {decimal(other)}"
        parts.append(f"they agree with the image's edges to at most {decimal(edges)}, {own}")
        return "; ".join(parts) + "."

    def _highest(self, name: str, models: Sequence[int], kind: str) -> float:
        """Return the highest of some models' floors; nan where none is defined."""
        means = [self.floor(name, one, kind).mean for one in models]
        return max((mean for mean in means if not np.isnan(mean)), default=float("nan"))
