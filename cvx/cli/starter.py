"""Train the starter models: a ResNet-18 and a ViT on digits and on shapes, in minutes."""

import dataclasses
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import cvx.cli
from cvx.cli.flags import WithData

PRESETS = ("digits_resnet18", "digits_vit", "shapes32_resnet18", "shapes32_vit")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(WithData):
    """Train the starter models on built-in data; nothing is downloaded. What is done already is skipped."""

    seeds: int = 1
    """Train each of them with this many seeds, to see the spread."""
    if_empty: bool = False
    """Do nothing if the store holds any model."""


def main(argv: list[str]) -> int:
    """Train the starter models and print their accuracies."""
    flags = cvx.cli.parse(Flags, argv, "starter")
    from cvx import config, pipeline
    from cvx.store import Store

    if flags.seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {flags.seeds}")
    roots = [f"--{name}={getattr(flags, name)}" for name in ("artifacts", "data") if getattr(flags, name)]
    _, place = config.parse([*roots, "--wandb=off"])
    if flags.if_empty and Store(place.artifacts).models():
        return 0
    print(f"training the starter models into {place.artifacts} (a few minutes; done ones are skipped)", file=sys.stderr)
    outcomes = [
        pipeline.run_preset(file, [f"--seed={seed}"], place) for seed in range(flags.seeds) for file in presets()
    ]
    print_spread(outcomes)
    return 1 if any(one.status == "failed" for one in outcomes) else 0


def presets() -> list[Path]:
    """Return the starter presets of the checkout that cvx is installed from.

    Raises:
        FileNotFoundError: If cvx was installed without its configs.
    """
    folder = Path(cvx.__file__).parent.parent / "configs"
    files = [folder / f"{name}.yaml" for name in PRESETS]
    if missing := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}; run from a checkout with `pip install -e .`")
    return files


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
