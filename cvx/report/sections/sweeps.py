"""Report sections on sweeps: trials, parameters and what they changed."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cvx.files import read_json
from cvx.plotting.colors import png_uri
from cvx.report.blocks import Block, Command, Figure, Figures, Heading, Table, Text
from cvx.report.snapshot import StoreSnapshot, number, placeless

MAX_TRIALS = 12


def sweeps(study: StoreSnapshot) -> list[Block]:
    """Show what the sweeps in the store found."""
    blocks: list[Block] = []
    for file in sorted(study.store.sweeps_root.glob("*/result.json")):
        try:
            content = read_json(file)
            blocks += _sweep(content, file.parent)
        except (ValueError, KeyError, TypeError, OSError) as error:
            told = placeless(f"sweep {file.parent.name} cannot be read: {error}", study.store)
            blocks.append(Text(told, "problem"))
    return blocks


def _sweep(content: Mapping[str, Any], folder: Any) -> list[Block]:
    metric, names, trials = content["metric"], list(content["parameters"]), list(content["trials"])
    told = f"{len(trials)} trials, {content['method']}"
    told += f", {metric['goal'][:-1]}ing {metric['name']}" if metric else ""
    blocks: list[Block] = [Heading(str(content["name"]), told)]
    titles = {"parallel_coordinates.png": "Every trial", "importance.png": "What went with the score"}
    pictures = [(title, folder / name) for name, title in titles.items() if (folder / name).is_file()]
    if pictures:
        figures = tuple(Figure(title, uri=png_uri(path.read_bytes())) for title, path in pictures)
        blocks.append(Figures(figures, layout="wide"))
    blocks += _trial_table(metric, names, trials)
    if content.get("command"):
        blocks += [Text("The best trial again:"), Command(_without_places(str(content["command"])))]
    return blocks


def _trial_table(metric: Mapping[str, Any] | None, names: Sequence[str], trials: Sequence[Any]) -> list[Block]:
    """List the best trials, best first; none where no trial has a value."""
    scored = [one for one in trials if one.get("value") is not None]
    sign = -1 if metric and metric["goal"] == "maximize" else 1
    best = sorted(scored, key=lambda one: sign * one["value"])[:MAX_TRIALS]
    if not best:
        return []
    rows = [
        (
            str(one["number"]),
            *(number(one["values"].get(name, "–")) for name in names),
            number(float(one["value"])),
            str(one["status"]),
        )
        for one in best
    ]
    caption = f"The best {len(rows)} of {len(trials)} trials." if len(rows) < len(trials) else ""
    title = metric["name"] if metric else "value"
    return [Table(("trial", *names, title, "status"), tuple(rows), caption=caption)]


def _without_places(line: str) -> str:
    """Leave out where this machine keeps its store and its data: the page may travel."""
    return shlex.join(part for part in shlex.split(line) if not part.startswith(("--artifacts=", "--data=")))
