"""Choices of the tab Compare, and the link that holds them."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from cvx.attribution.options import METHOD_NAMES, MODES, REDUCTIONS, SCORES

CHOICES = {
    "source": ("samples", "upload"),
    "target": ("pred", "label", "class", "runner_up", "difference"),
    "score": SCORES,
    "method": METHOD_NAMES,
    "reduction": REDUCTIONS,
    "scale": MODES,
}
WHICH = {"": "all samples", "wrong": "some wrong", "disagree": "disagree"}
"""Which samples a strip offers, in words."""
PER_PAGE = 18
"""Samples that a strip offers at a time."""
COUNTS = ("image", "page")
RANGES = {"limit": (1e-12, 1e12), "clip": (50.0, 100.0), "opacity": (0.0, 100.0)}


@dataclasses.dataclass(frozen=True)
class Pick:
    """Which sample of one dataset is looked at, and which class is explained there."""

    index: int = 0
    target: str = ""
    """A class name for the target `class`; empty means the sample's own."""
    shown: str = ""
    """The class whose samples are offered; empty means all."""
    page: int = 0
    which: str = ""
    """`wrong` or `disagree` offers only samples on which a chosen model errs, or two differ; empty means all."""


KEYS = {"image": "index", "class": "target", "show": "shown", "page": "page", "which": "which"}
"""The fields of a pick by their key in a link, which the dataset's name follows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """The controls of the tab Compare; a field's name is its key in a link."""

    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    source: str = "samples"
    samples: str = ""
    """`NAME:vK` of the samples that all models are asked about; empty: each dataset's own."""
    target: str = "pred"
    score: str = "logit"
    method: str = "gradient"
    reduction: str = "max"
    scale: str = "shared"
    """shared (one for a row), each (a map its own), or absolute (`limit`)."""
    limit: float = 1.0
    clip: float = 99.0
    """Percentile of the magnitudes that is drawn as the end of the scale."""
    opacity: float = 60.0
    """Of the map over the image, in percent."""

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(allowed)}")
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in {low:g}…{high:g}, got {getattr(self, name)!r}")

    def link(self, picks: Mapping[str, Pick]) -> str:
        """Write choice and picks as a query string; what is at its default is left out."""
        pairs: list[tuple[str, Any]] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                pairs += [(field.name, each) for each in value] if isinstance(value, tuple) else [(field.name, value)]
        for dataset in self.datasets:
            pick = picks.get(dataset, Pick())
            pairs += [(f"{key}.{dataset}", value) for key, name in KEYS.items() if (value := getattr(pick, name))]
        return urlencode(pairs)


def read_link(pairs: Iterable[tuple[str, str]]) -> tuple[Choice, dict[str, Pick]]:
    """Read what `Choice.link` wrote; what makes no sense is left out, as a link may be old or cut off."""
    found: dict[str, Any] = {}
    picks: dict[str, Pick] = {}
    for key, value in pairs:
        kind, _, dataset = key.partition(".")
        if key in ("datasets", "models"):
            found[key] = (*found.get(key, ()), value)
        elif key == "samples":
            found[key] = value
        elif value in CHOICES.get(key, ()) or (key in RANGES and _lies_in(RANGES[key], value)):
            found[key] = float(value) if key in RANGES else value
        elif kind in KEYS and _fits(kind, value):
            said: dict[str, Any] = {KEYS[kind]: int(value) if kind in COUNTS else value}
            picks[dataset] = dataclasses.replace(picks.get(dataset, Pick()), **said)
    return Choice(**found), picks


def _fits(kind: str, value: str) -> bool:
    if kind in COUNTS:
        return value.isdecimal() and len(value) < 9
    return kind != "which" or value in WHICH


def _lies_in(bounds: tuple[float, float], value: str) -> bool:
    try:
        return bounds[0] <= float(value) <= bounds[1]
    except ValueError:
        return False
