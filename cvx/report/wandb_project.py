"""Tables of the runs that a W&B project has and the store does not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cvx.report.blocks import Table
from cvx.report.fill import Filled
from cvx.report.sections.training_results import spread

NUMBERS = {"test/acc1": "test accuracy", "val/acc1": "val accuracy", "test/ece": "ECE"}


@dataclass(frozen=True)
class Trained:
    """One training on W&B."""

    dataset: str
    model: str
    numbers: Mapping[str, float]


def trained_of(run: Any) -> Trained | None:
    """Read a run of W&B's API; None if it is no training, such as a comparison."""
    dataset, model = run.config.get("dataset"), run.config.get("model")
    if not isinstance(dataset, str) or not isinstance(model, str):
        return None
    values = {name: run.summary.get(name) for name in NUMBERS}
    return Trained(dataset, model, {name: float(x) for name, x in values.items() if isinstance(x, int | float)})


def with_runs(one: Filled, trained: Sequence[Trained]) -> Filled:
    """Give the section of runs the project's numbers where the store has none to show."""
    if one.section.key != "runs" or any(isinstance(block, Table) for block in one.blocks):
        return one
    return replace(one, blocks=(*one.blocks, _table(trained)))


def _table(trained: Sequence[Trained]) -> Table:
    groups: dict[tuple[str, str], list[Trained]] = {}
    for run in trained:
        groups.setdefault((run.model, run.dataset), []).append(run)
    rows = [(*names, *(_spread(own, name) for name in NUMBERS), str(len(own))) for names, own in groups.items()]
    caption = "Mean over all runs of the project, whatever their recipe, with the smallest and largest."
    return Table(("model", "dataset", *NUMBERS.values(), "runs"), tuple(rows), num_names=2, caption=caption)


def _spread(runs: Sequence[Trained], name: str) -> str:
    values = [run.numbers.get(name, math.nan) for run in runs]
    return spread(values, 3, "", 1) if name.endswith("ece") else spread(values)
