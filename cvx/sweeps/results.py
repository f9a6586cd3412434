"""Write a sweep's results: the numbers, two plots, and the command that gives the best trial again."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvx.files import whole_file, write_json
from cvx.store.layout import StoreLayout
from cvx.store.runs import Run
from cvx.sweeps import display, plots
from cvx.sweeps.command import shown
from cvx.sweeps.runner import Plan
from cvx.sweeps.sweep_file import Sweep, argv
from cvx.sweeps.trials import Trial

MIN_TRIALS = 2
"""Trials with a value below which there is nothing to plot."""


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """What a sweep found."""

    best: Trial | None
    command: str
    plots: tuple[Path, ...]


def write(sweep: Sweep, plan: Plan, trials: Sequence[Trial]) -> SweepResult:
    """Write `result.json` and the plots into the sweep's folder."""
    best = display.best(sweep, trials)
    command = again(sweep, plan, best) if best else ""
    content = {
        "name": plan.name,
        "file": str(sweep.file),
        "method": sweep.method,
        "metric": {"name": sweep.metric.name, "goal": _goal(sweep)} if sweep.metric else None,
        "parameters": [parameter.name for parameter in sweep.varied],
        "trials": [_fact(sweep, trial) for trial in trials],
        "best": best.run if best else "",
        "command": command,
    }
    write_json(plan.folder / "result.json", content)
    return SweepResult(best, command, draw(sweep, plan.folder, trials))


def _goal(sweep: Sweep) -> str:
    return "maximize" if sweep.metric and sweep.metric.maximize else "minimize"


def _fact(sweep: Sweep, trial: Trial) -> dict[str, Any]:
    kept = ("number", "key", "status", "run", "error", "seconds")
    facts = {name: getattr(trial, name) for name in kept}
    return {**facts, "values": dict(trial.values), "value": display.score(sweep, trial)}


def again(sweep: Sweep, plan: Plan, trial: Trial) -> str:
    """Return the command that runs a trial again; where the sweep kept no weights, it keeps them."""
    line = [*argv(sweep, trial.values, plan.folder / "args" / "best.json"), *plan.flags]
    if not sweep.trains:
        return shlex.join(shown(line))
    summary = Run(StoreLayout(plan.artifacts).runs_root / trial.run).summary
    if not summary or "best" not in summary:
        line = [part for part in line if not part.startswith("--save=")] + ["--save=best_last"]
    line += [] if plan.artifacts == Path("artifacts").resolve() else [f"--artifacts={plan.artifacts}"]
    return shlex.join(shown(line))


def draw(sweep: Sweep, folder: Path, trials: Sequence[Trial]) -> tuple[Path, ...]:
    """Draw the trials as parallel coordinates, and how much each parameter mattered, where that can be said."""
    scored = [(trial, display.score(sweep, trial)) for trial in trials if trial.status in ("finished", "stopped")]
    scored = [(trial, value) for trial, value in scored if value is not None]
    if sweep.metric is None or not sweep.varied or len(scored) < MIN_TRIALS:
        return ()
    axes = [plots.axis(parameter, [trial.values[parameter.name] for trial, _ in scored]) for parameter in sweep.varied]
    scores = np.array([value for _, value in scored], np.float64)
    full = np.array([trial.status == "finished" for trial, _ in scored])
    pictures = {"parallel_coordinates.png": plots.parallel_coordinates(axes, scores, full, sweep.metric)}
    matters = plots.importance(axes, scores)
    if matters is not None:
        pictures["importance.png"] = plots.importance_figure(matters, len(scores), sweep.metric.name)
    for name, picture in pictures.items():
        with whole_file(folder / name) as temporary:
            temporary.write_bytes(picture)
    return tuple(folder / name for name in pictures)
