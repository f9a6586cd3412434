"""The tab Runs as HTML: learning curves, hyperparameters against the result, and tables."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from cvx.plotting.labels import percent
from demo.backend.run_history import X_AXES, RecordedRun, RunHistory
from demo.components.markup import notice, text

X_WORDS = {"epoch": "epoch", "step": "step", "time": "seconds"}
MOST_POINTS = 800
"""Of one curve; of more, evenly spaced ones are drawn."""
ALWAYS = ("dataset", "model", "epochs", "lr", "seed")
"""Hyperparameters that the table shows even where all runs agree."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How the curves are drawn."""

    metric: str = "val/acc1"
    x: str = "epoch"
    smoothing: float = 0.0
    """In [0, 1): how much of the past each value keeps."""
    log_x: bool = False
    log_y: bool = False
    color: str = "run"
    """What curves of one color have in common: run, model, dataset or group."""


def page(history: RunHistory, runs: Sequence[RecordedRun], drawn: Drawn, link: str = "") -> str:
    """Draw curves, parallel coordinates and both tables."""
    if not runs:
        return notice("Choose a run", "Tick one or more datasets that have runs.")
    curves, missing = _curves(history, runs, drawn)
    varied = varying(runs)
    data = json.dumps(
        {"curves": curves, "drawn": vars(drawn), "x": X_WORDS[drawn.x], "parallel": _parallel(runs, varied)}
    )
    lost = f'<p class="cvx-small">No {text(drawn.metric)} in {text(", ".join(missing))}.</p>' if missing else ""
    return (
        f'<div class="cvx-runs" data-link="{text(link)}"><div hidden data-json="{text(data)}"></div>'
        f'<section class="cvx-card cvx-curves" aria-label="learning curves"><h3>{text(drawn.metric)}</h3>'
        f'<div class="cvx-plot" style="height:360px"></div>{lost}</section>'
        f'<section class="cvx-card" aria-label="test accuracy"><h3>Test accuracy</h3>{_accuracies(runs)}</section>'
        f'<section class="cvx-card cvx-parallel" aria-label="hyperparameters against the result"><h3>Hyperparameters'
        f" against test accuracy</h3>{_parallel_place(runs, varied)}</section>"
        f'<section class="cvx-card" aria-label="runs"><h3>Runs</h3>{_table(runs, varied)}</section></div>'
    )


def metrics_of(history: RunHistory, runs: Sequence[RecordedRun]) -> list[str]:
    """List the metrics that any of the runs has recorded, validation first."""
    found: set[str] = set()
    for run in runs:
        try:
            rows = history.rows(run)
        except (ValueError, OSError):
            continue
        found.update(key for row in (*rows[:3], *rows[-3:]) for key in row)
    return sorted(found - set(X_AXES), key=lambda name: (not name.startswith("val/"), name))


def smooth(values: Float64[np.ndarray, "n"], weight: float) -> Float64[np.ndarray, "n"]:
    """Average exponentially, without the pull towards zero at the start (Kingma and Ba, 2015, arXiv:1412.6980)."""
    if weight <= 0:
        return values
    smoothed, last = np.empty_like(values), 0.0
    for i, value in enumerate(values):
        last = weight * last + (1 - weight) * value
        smoothed[i] = last / (1 - weight ** (i + 1))
    return smoothed


def varying(runs: Sequence[RecordedRun]) -> list[str]:
    """List the hyperparameters in which the runs differ, the seed last."""
    names = list(dict.fromkeys(name for run in runs for name in run.config))
    differing = [name for name in names if len({str(run.config.get(name)) for run in runs}) > 1]
    return sorted(differing, key=lambda name: name == "seed")


def _curves(history: RunHistory, runs: Sequence[RecordedRun], drawn: Drawn) -> tuple[list[dict[str, Any]], list[str]]:
    curves, missing = [], []
    for run in runs:
        try:
            rows = [row for row in history.rows(run) if drawn.metric in row]
        except (ValueError, OSError):
            rows = []
        if not rows:
            missing.append(run.label)
            continue
        x = np.array([row[drawn.x] for row in rows], dtype=np.float64)
        raw = np.array([row[drawn.metric] for row in rows], dtype=np.float64)
        kept = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).round().astype(int))
        y = smooth(raw, drawn.smoothing)[kept]
        curve = {
            "label": f"{run.dataset} {run.label}",
            "group": _common(run, drawn.color),
            "x": _floats(x[kept]),
            "y": _floats(y),
        }
        curves.append({**curve, "raw": _floats(raw[kept]) if drawn.smoothing else []})
    return curves, missing


def _common(run: RecordedRun, color: str) -> str:
    """Name what a curve has in common with others of its color; nothing, if every run has a color of its own."""
    return {"model": run.model, "dataset": run.dataset, "group": run.group or "no sweep"}.get(color, "")


def _floats(values: Float64[np.ndarray, "n"]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _accuracies(runs: Sequence[RecordedRun]) -> str:
    """Average over runs that differ in their seed alone; the spread is that between seeds."""
    groups: dict[str, list[RecordedRun]] = defaultdict(list)
    for run in runs:
        if "test/acc1" in run.metrics:
            settings = {name: value for name, value in run.config.items() if name != "seed"}
            groups[json.dumps(settings, sort_keys=True, default=str)].append(run)
    if not groups:
        return notice("No run has ended yet", "The test set is looked at once, when a run ends.")
    differing = [name for name in varying(runs) if name not in ("seed", "dataset", "model")]
    rows = [_accuracy(group, differing) for group in groups.values()]
    rows.sort(key=lambda row: (row[0], -row[-1]))
    head = ("dataset", "model", "test accuracy", "standard deviation", "lowest", "highest", "runs", *differing)
    return _html_table(head, [row[:-1] for row in rows], "test accuracy by setting")


def _accuracy(group: Sequence[RecordedRun], differing: Sequence[str]) -> tuple[Any, ...]:
    found = np.array([run.metrics["test/acc1"] for run in group])
    first, spread = group[0], f"{100 * found.std(ddof=1):.2f}" if len(found) > 1 else "–"
    settings = [_value(first.config.get(name)) for name in differing]
    lowest, mean, highest = (float(one) for one in (found.min(), found.mean(), found.max()))
    numbers = (percent(mean), spread, percent(lowest), percent(highest), len(found))
    return (first.dataset, first.model, *numbers, *settings, mean)


def _parallel_place(runs: Sequence[RecordedRun], varied: Sequence[str]) -> str:
    done = [run for run in runs if "test/acc1" in run.metrics]
    if len(done) < 2 or not varied:
        return notice("Nothing to compare yet", "Two runs that have ended, with different hyperparameters, are needed.")
    return (
        '<div class="cvx-scroll" tabindex="0" role="region" aria-label="parallel coordinates">'
        '<div class="cvx-plot" style="height:320px"></div></div>'
    )


def _parallel(runs: Sequence[RecordedRun], varied: Sequence[str]) -> list[dict[str, Any]]:
    """Return one axis per hyperparameter that differs, and the test accuracy last."""
    done = [run for run in runs if "test/acc1" in run.metrics]
    axes = [_axis(name, [run.config.get(name) for run in done]) for name in varied]
    axes = [axis for axis in axes if len(set(axis["values"])) > 1]
    accuracy = {"label": "test accuracy", "values": [run.metrics["test/acc1"] for run in done], "tickformat": ".1%"}
    return [*axes, accuracy] if axes and len(done) > 1 else []


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Place numbers by size, those over two decades by logarithm, and words in order."""
    numeric = all(type(value) in (int, float) and abs(value) < 1e300 for value in values)
    if numeric and min(values) > 0 and max(values) / min(values) >= 100:
        ticks = sorted(set(values))
        places = [float(np.log10(value)) for value in values]
        return {
            "label": name,
            "values": places,
            "tickvals": [float(np.log10(t)) for t in ticks],
            "ticktext": [f"{t:g}" for t in ticks],
        }
    if numeric and len(set(values)) > 4:
        return {"label": name, "values": list(values)}
    words = list(dict.fromkeys(map(_value, sorted(values) if numeric else sorted(values, key=_value))))
    places = [float(words.index(_value(value))) for value in values]
    return {"label": name, "values": places, "tickvals": list(range(len(words))), "ticktext": words}


def _table(runs: Sequence[RecordedRun], varied: Sequence[str]) -> str:
    fields = list(dict.fromkeys((*ALWAYS, *varied)))
    grouped, online = any(run.group for run in runs), any(run.url for run in runs)
    more = [*(["sweep"] if grouped else []), *(["on W&B"] if online else [])]
    head = ("run", "test accuracy", "val accuracy", "best epoch", "minutes", "state", *more, *fields)
    rows = [_table_row(run, fields, grouped, online) for run in reversed(runs)]
    return _html_table(head, rows, "runs and their hyperparameters")


def _table_row(run: RecordedRun, fields: Sequence[str], grouped: bool, online: bool) -> tuple[Any, ...]:
    summary, numbers = run.summary or {}, run.metrics
    accuracies = [percent(numbers[key]) if key in numbers else "–" for key in ("test/acc1", "val/acc1")]
    seconds = summary.get("time_s")
    minutes = f"{seconds / 60:.1f}" if isinstance(seconds, (int, float)) else "–"
    state, best = "ended" if run.summary else "not ended", summary.get("best_epoch", "–")
    more = [*([run.group] if grouped else []), *([Address(run.url)] if online else [])]
    settings = (_value(run.config.get(name)) for name in fields)
    return (run.name, *accuracies, best, minutes, state, *more, *settings)


class Address(str):
    """A table's cell that leads to another site."""


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def _html_table(head: Sequence[str], rows: Sequence[Sequence[Any]], name: str) -> str:
    cells = "".join(f'<th scope="col"><button type="button">{text(one)}</button></th>' for one in head)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="cvx-scroll" tabindex="0" role="region" aria-label="{text(name)}"><table class="cvx-table">'
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, Address) and value:
        return f'<a href="{text(value)}" target="_blank" rel="noopener noreferrer">open</a>'
    return text(value)
