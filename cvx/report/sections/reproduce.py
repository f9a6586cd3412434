"""Report section on how to reproduce each result."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cvx.report.blocks import Block, Command, Table, Text
from cvx.report.snapshot import RunRecord, StoreSnapshot


def reproduce(study: StoreSnapshot) -> list[Block]:
    """Give the command of every model's best recipe, and what it was run with."""
    blocks: list[Block] = []
    for part in study.parts:
        for model in sorted({one.model for one in part.recipes}):
            recipe = part.best_recipe(model)
            if recipe is not None:
                seeds = [past.seed for past in recipe.finished()]
                again = f" Seeds {', '.join(map(str, seeds))}: change --seed." if len(seeds) > 1 else ""
                blocks.append(Text(f"{recipe.label} on {part.dataset}.{again}"))
                blocks.append(Command(command(recipe.finished()[0], study.defaults)))
    blocks += [Text("This page again, from the same store:"), Command(study.again)]
    return [*blocks, *_made_with(study.runs)]


def command(past: RunRecord, defaults: Mapping[str, Any]) -> str:
    """Write the command that trains a run again: every hyperparameter that is not at its default."""
    needed = {name: value for name, value in past.config.items() if name not in defaults or defaults[name] != value}
    needed = {"dataset": past.config["dataset"], "model": past.config["model"], **needed, "seed": past.seed}
    return shlex.join(["python", "-m", "cvx", "train", *(f"--{name}={value}" for name, value in needed.items())])


def _made_with(pasts: Sequence[RunRecord]) -> list[Block]:
    if not pasts:
        return []
    groups: dict[str, list[str]] = {}
    for past in pasts:
        versions = past.facts.get("versions", {})
        told = {
            "commit": past.facts.get("git_commit") or "unknown",
            **versions,
            "precision": past.facts.get("precision", "–"),
        }
        for name, value in told.items():
            groups.setdefault(name, []).append(str(value))
    rows = tuple((name, ", ".join(dict.fromkeys(values))) for name, values in groups.items())
    return [
        Table(
            ("made with", "versions"),
            rows,
            num_names=2,
            wrap=True,
            caption=f"All that the {len(pasts)} runs were made with.",
        )
    ]
