"""Train the starter models: a ResNet-18 and a ViT on digits and on shapes, in minutes."""

import dataclasses
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cvx.cli
from cvx.cli.flags import WithData
from cvx.pipeline import PRESETS, presets

if TYPE_CHECKING:
    from cvx.config import RunOptions

LEFT = "starter.json"
"""In the store while the models are trained: those that are not done."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StarterFlags(WithData):
    """Train the starter models on built-in data; nothing is downloaded. What is done already is skipped."""

    seeds: int = 1
    """Train each of them with this many seeds, to see the spread."""
    if_empty: bool = False
    """In a store that holds a model, only finish what an earlier call was interrupted in."""


def main(argv: list[str]) -> int:
    """Train the starter models and print their accuracies."""
    flags = cvx.cli.parse(StarterFlags, argv, "starter")
    from filelock import FileLock, Timeout

    from cvx import config
    from cvx.store import Store

    if flags.seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {flags.seeds}")
    options = config.RunOptions(artifacts=flags.root, data=flags.data_root, wandb="off")
    todo = [(name, seed) for seed in range(flags.seeds) for name in PRESETS]
    if flags.if_empty and Store(options.artifacts).models():
        todo = left(options.artifacts)
        if not todo:
            return 0
        print("an earlier training of the starter models was interrupted; this goes on with it", file=sys.stderr)
    options.artifacts.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(options.artifacts / f"{LEFT}.lock", timeout=0):
            return _train(todo, options)
    except Timeout:
        print(f"another process is training the starter models into {options.artifacts}", file=sys.stderr)
        return 0 if flags.if_empty else 1


def _train(todo: Sequence[tuple[str, int]], options: "RunOptions") -> int:
    """Train model after model; what is left stands in a file all the while, for the call after an interrupted one."""
    from cvx import pipeline
    from cvx.files import write_json

    files = dict(zip(PRESETS, presets(), strict=True))
    print(
        f"training the starter models into {options.artifacts} (a few minutes; done ones are skipped)", file=sys.stderr
    )
    outcomes = []
    for i, (name, seed) in enumerate(todo):
        write_json(options.artifacts / LEFT, {"left": todo[i:]})
        outcomes.append(pipeline.run_preset(files[name], [f"--seed={seed}"], options))
    (options.artifacts / LEFT).unlink(missing_ok=True)
    print_spread(outcomes)
    return 1 if any(one.status == "failed" for one in outcomes) else 0


def left(artifacts: Path) -> list[tuple[str, int]]:
    """Return the presets and seeds that an interrupted call has not come to the end of; none where none was."""
    from cvx.files import read_json

    file = artifacts / LEFT
    if not file.is_file():
        return []
    try:
        return [(str(name), int(seed)) for name, seed in read_json(file)["left"] if name in PRESETS]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{file} is damaged; delete it, and `python -m cvx starter` trains what is missing") from None


def print_spread(outcomes: Sequence) -> None:
    """Print each preset's test accuracy: mean and range over its seeds."""
    from rich.console import Console
    from rich.table import Table

    table = Table("starter model", "seeds", "test accuracy", "min – max", "time per run")
    for label in dict.fromkeys(one.label for one in outcomes):
        done = [one.summary for one in outcomes if one.label == label and one.summary]
        if not done:
            table.add_row(label, "0", "[red]failed[/red]", "", "")
            continue
        accuracies = [summary["metrics"]["test/acc1"] for summary in done]
        seconds = statistics.mean(summary["time_s"] for summary in done)
        spread = f"{min(accuracies):.3f} – {max(accuracies):.3f}"
        table.add_row(label, str(len(done)), f"{statistics.mean(accuracies):.3f}", spread, f"{seconds:.0f} s")
    Console().print(table)
    for one in outcomes:
        if one.error:
            print(f"failed: {one.label}: {one.error}", file=sys.stderr)
