"""Write the page of one run, from the same sections as the whole report."""

from collections.abc import Mapping
from typing import Any

import torch

from cvx.report import fill, html
from cvx.report.read_store import read_run
from cvx.store import Store
from cvx.store.runs import Run

SECTIONS = ("runs", "curves", "confusion", "calibration", "maps", "film", "embeddings", "reproduce")
"""What one run can tell by itself; whatever needs other runs to stand beside it is left to the whole report."""
NUM_IMAGES = 64
"""Samples that its model looks at, of which a few are shown."""


def run_page(
    store: Store, run: Run, defaults: Mapping[str, Any] | None = None, device: torch.device | str = "cpu"
) -> bytes:
    """Draw one run as a self-contained HTML page that asks for nothing from the internet.

    Args:
        defaults: Hyperparameters that need no flag in the command that trains the run again; all others stand there.

    Raises:
        ValueError: If the run cannot be read.
    """
    study = read_run(store, run, NUM_IMAGES, device, defaults)
    filled = fill.fill(study, only=SECTIONS)
    return html.render(study, filled, run.name).encode("utf-8")
