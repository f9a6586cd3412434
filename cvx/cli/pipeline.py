"""Take many presets through training, evaluation, maps and embeddings to one report; skips what is done."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cvx.processes import PROGRAM

if TYPE_CHECKING:
    from cvx.config import RunOptions

USAGE = f"""usage: {PROGRAM} pipeline FILE [FILE …] [--field=value …]

Every preset is trained, tested and projected, and its maps are written; flags hold for all of them.
Finished ones are skipped, interrupted ones continue, and a failed one does not stop the others.
At the end all that the store holds is written into one page, reports/report.html.

example: {PROGRAM} pipeline configs/digits_*.yaml --epochs=5
"""


def main(argv: list[str]) -> int:
    """Run the presets in turn and print one table at the end; exit code 1 if any failed."""
    files = [Path(argument) for argument in argv if not argument.startswith("-")]
    flags = [argument for argument in argv if argument.startswith("-")]
    if "--help" in flags or "-h" in flags:
        print(USAGE, end="")
        return 0
    if not files:
        raise ValueError("name the presets to run; for example: python -m cvx pipeline configs/digits_*.yaml")
    from cvx import config, pipeline
    from cvx.tracking import Once

    _, options = config.parse(flags, prog=f"{PROGRAM} pipeline FILE")
    if options.resume:
        raise ValueError("a pipeline finds by itself which runs to continue: leave --resume out, or give it to `train`")
    then = _attribute(options)
    once = Once()
    outcomes = [pipeline.run_preset(file, flags, options, then, once) for file in files]
    print_outcomes(outcomes)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        print(f"failed: {outcome.label}: {outcome.error}", file=sys.stderr)
    if len(failed) < len(outcomes):
        _report(options)
    return 1 if failed else 0


def _report(options: "RunOptions") -> None:
    from cvx.cli.report import ReportFlags, write_report

    write_report(ReportFlags(artifacts=str(options.artifacts), device=options.device))


def _attribute(options: "RunOptions") -> Callable[[str], object]:
    from cvx.cli.attribute import AttributeFlags, draw_maps

    flags = AttributeFlags(
        artifacts=str(options.artifacts), device=options.device, wandb=options.wandb, project=options.project
    )
    return lambda reference: draw_maps(dataclasses.replace(flags, models=(reference,)))


def print_outcomes(outcomes: list) -> None:
    """Print one row per config: status, accuracies and time."""
    from rich.console import Console
    from rich.table import Table

    table = Table("config", "status", "val acc", "test acc", "test ECE", "time", "model")
    for one in outcomes:
        if one.summary is None:
            table.add_row(one.label, "[red]failed[/red]", *[""] * 5)
            continue
        numbers = one.summary["metrics"]
        accuracies = [f"{numbers[key]:.4f}" for key in ("val/acc1", "test/acc1", "test/ece")]
        table.add_row(one.label, one.status, *accuracies, f"{one.summary['time_s']:.0f} s", one.summary.get("best", ""))
    Console().print(table)
