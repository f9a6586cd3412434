"""Controls that several tabs share: choices, limits, scripts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from cvx.attribution import options
from demo.serving.fair_queue import MAP_QUEUE

if TYPE_CHECKING:
    from demo.backend.catalog import Catalog


ASSETS = Path(__file__).parent
MAX_ROWS, MAX_COLUMNS = 3, 4
"""Datasets and models that are ticked unasked."""
SCORES = [(words[0].upper() + words[1:], name) for name, words in options.SCORE_WORDS.items()]
METHODS = [(words[0].upper() + words[1:], name) for name, words in options.METHOD_WORDS.items()]
_REDUCTION_TITLES = {"max": "Largest magnitude", "sum": "Sum of magnitudes", "signed": "Signed sum"}
REDUCTIONS = [(_REDUCTION_TITLES[name], name) for name in options.REDUCTIONS]
QUIET: dict[str, Any] = {
    "api_visibility": "private",
    **MAP_QUEUE,
    "show_progress": "minimal",
    "trigger_mode": "always_last",
}
"""Settings of every event that asks models: hidden from scripts, in turn, the last click counts."""
HIDDEN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Settings of events that ask no model and show no progress."""


def event_data(event: gr.EventData) -> dict[str, Any]:
    """Return what a component's script handed to `trigger`.

    Gradio keeps it in a private attribute; no other place reads it, so that one place has to change with Gradio.
    """
    data = event._data
    return data if isinstance(data, dict) else {}


def columns_of(catalog: "Catalog", datasets: Sequence[str]) -> list[str]:
    """List the models that were trained on any of these datasets, best versions first."""
    shown = [catalog.datasets[name] for name in datasets if name in catalog.datasets]
    return [name for name in catalog.columns if any(name in one.columns for one in shown)]


def script_of(*names: str) -> str:
    """Return a component's JavaScript, of one file or of several that share their names."""
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)


def newest_of_each_model(runs: Sequence[Any]) -> list[str]:
    """Name the newest run of every model that has ended, or else of every model; not more than fit side by side."""
    done = [run for run in runs if run.summary is not None] or list(runs)
    newest = {run.model: run.name for run in done}
    return list(newest.values())[:MAX_COLUMNS]
