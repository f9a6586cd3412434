"""W&B's panels as plain data: each names the keys it plots, which tests hold against what runs log."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Lines:
    """A line per run."""

    title: str
    y: str
    x: str = "Step"


@dataclass(frozen=True)
class Bars:
    """A bar per model: the mean over its runs."""

    title: str
    metric: str


@dataclass(frozen=True)
class ScatterPanel:
    """A point per run, a hyperparameter against a metric."""

    title: str
    parameter: str
    metric: str


@dataclass(frozen=True)
class Media:
    """Pictures as a grid: runs × images, with a slider over the steps."""

    title: str
    keys: tuple[str, ...]
    columns: int = 4


@dataclass(frozen=True)
class Parallel:
    """A line per run over hyperparameters to a metric."""

    title: str
    parameters: tuple[str, ...]
    metric: str


@dataclass(frozen=True)
class ImportancePanel:
    """How much each hyperparameter goes with a metric."""

    metric: str


@dataclass(frozen=True)
class Comparer:
    """Runs side by side, what differs first."""


@dataclass(frozen=True)
class Grid:
    """A table that runs log; from its settings a person chooses W&B's own 2-D projection."""

    key: str


@dataclass(frozen=True)
class Chart:
    """Bars drawn from a table that runs log."""

    title: str
    key: str
    label: str
    value: str


Panel = Lines | Bars | ScatterPanel | Media | Parallel | ImportancePanel | Comparer | Grid | Chart


def metric_keys(panel: Panel) -> tuple[str, ...]:
    """Return the names of what a panel shows that runs must log."""
    if isinstance(panel, Lines):
        return (panel.y, *(() if panel.x == "Step" else (panel.x,)))
    if isinstance(panel, Bars | ScatterPanel | Parallel | ImportancePanel):
        return (panel.metric,)
    if isinstance(panel, Grid | Chart):
        return (panel.key,)
    return panel.keys if isinstance(panel, Media) else ()


def of_comparisons(panel: Panel) -> bool:
    """Tell whether a panel shows what `compare` logs, rather than what trainings do."""
    return any(key.startswith("compare/") for key in metric_keys(panel))
