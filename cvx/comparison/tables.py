"""Tables of measures as CSV, Markdown and LaTeX."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvx.comparison.agreement_result import AGREEMENT_WORDS, CONDITIONS, FLOORS, Agreement
from cvx.comparison.faithfulness import MAPS, Faithfulness
from cvx.comparison.per_model import ModelTable
from cvx.comparison.randomization import LEVELS, Sanity
from cvx.comparison.training_history import TrainingHistory
from cvx.files import whole_file
from cvx.metrics.bootstrap import decimal

FLOOR_WORDS = {"sobel": "edges", "random": "noise", "other_image": "other image"}
CONDITION_WORDS = {"all": "all images", "both_right": "both right", "disagree": "disagree"}
HISTORY_WORDS = {
    "model": "model",
    "epoch": "epoch",
    "val/acc1": "val/acc1",
    "maps_like_final": "like final",
    "maps_like_previous": "like previous",
    "mask_mass": "on mask",
    "mask_chance": "chance",
    "silhouette": "silhouette",
    "knn": "kNN",
    "trustworthiness": "trust",
}
"""What people see of a run's history; programs get all of it."""


def agreement_table(found: Agreement) -> tuple[list[str], list[list[str]]]:
    """Return head and rows for people: a row per measure and pair, with ceiling and floors."""
    head = ["measure", "models", *CONDITION_WORDS.values(), "ceiling", *FLOOR_WORDS.values()]
    rows = []
    for name in found.names:
        for i, j in found.pairs():
            intervals = [found.interval(name, i, j, condition).text() for condition in CONDITIONS]
            tops = [one.mean for k in (i, j) if (one := found.ceiling(name, k)) is not None and one.num]
            ceiling = " / ".join(decimal(top) for top in tops) or "–"
            floors = [" / ".join(decimal(found.floor(name, k, kind).mean) for k in (i, j)) for kind in FLOORS]
            pair = f"{found.columns[i]} – {found.columns[j]}"
            rows.append([AGREEMENT_WORDS[name][0], pair, *intervals, ceiling, *floors])
    return head, rows


def single_table(found: ModelTable) -> tuple[list[str], list[list[str]]]:
    """Return head and rows for people: a row per model, with chance in brackets where it is known."""
    head = ["model", *(name.replace("_", " ") for name in found.names), "images"]
    rows = []
    for i, reference in enumerate(found.references):
        cells = []
        for name in found.names:
            chance = found.chance(name, i)
            cells.append(found.interval(name, i).text() + ("" if math.isnan(chance) else f" (chance {chance:.2f})"))
        rows.append([reference, *cells, str(max(found.interval(name, i).num for name in found.names))])
    return head, rows


def faithfulness_table(found: Faithfulness) -> tuple[list[str], list[list[str]]]:
    """Return head and rows for people: a row per model and test, the model's own maps beside the controls."""
    head = ["model", "test", "better", *(name.replace("_", " ") for name in MAPS)]
    rows = [
        [found.columns[i], test.replace("_", " "), found.better(test), *_areas(found, i, test)]
        for i in range(len(found.references))
        for test in found.tests
    ]
    return head, rows


def _areas(found: Faithfulness, i: int, test: str) -> list[str]:
    return [found.interval(i, test, name).text() for name in MAPS]


def sanity_table(found: Sanity) -> tuple[list[str], list[list[str]]]:
    """Return head and rows for people: of each model its blocks, from the output to the input, and the floors."""
    head = ["model", "randomized down to", *(AGREEMENT_WORDS[name][0] for name in found.names)]
    rows = []
    for i, column in enumerate(found.columns):
        for block in found.blocks(i):
            rows.append([column, block, *(found.after(i, name, block).text() for name in found.names)])
        for kind in LEVELS:
            floors = [found.floor(i, name, kind).text() for name in found.names]
            rows.append([column, f"(nothing: {FLOOR_WORDS[kind]})", *floors])
    return head, rows


def history_table(found: Sequence[TrainingHistory], most: int = 8) -> tuple[list[str], list[list[str]]]:
    """Return head and rows for people: of each model at most so many epochs, evenly spaced."""
    flat = [one.rows() for one in found]
    names = [name for name in HISTORY_WORDS if any(name in row for rows in flat for row in rows)]
    head = [HISTORY_WORDS[name] for name in names]
    shown = [rows[i] for rows in flat for i in sorted({round(x) for x in np.linspace(0, len(rows) - 1, most)})]
    return head, [[_cell(row.get(name, math.nan)) for name in names] for row in shown]


def embeddings_table(flat: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows for people: a row per model and layout."""
    return list(flat[0]), [[_cell(value) for value in row.values()] for row in flat]


def _cell(value: object) -> str:
    return decimal(value) if isinstance(value, float) else str(value)


def write_table(
    stem: Path, flat: Sequence[Mapping[str, Any]], head: Sequence[str], rows: Sequence[Sequence[str]]
) -> list[Path]:
    """Write `stem.csv` (every number, for programs), `stem.md` and `stem.tex` (for people); return the paths."""
    texts = {".csv": _csv(flat), ".md": markdown(head, rows), ".tex": latex(head, rows)}
    paths = []
    for suffix, text in texts.items():
        path = stem.with_name(stem.name + suffix)
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def _csv(flat: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    names = list(dict.fromkeys(name for row in flat for name in row))
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for row in flat:
        writer.writerow({key: "" if isinstance(x, float) and math.isnan(x) else x for key, x in row.items()})
    return buffer.getvalue()


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


_SPECIAL = {"\\": r"\textbackslash{}", "–": "--", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def latex(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in LaTeX with booktabs' rules."""

    def escaped(cell: str) -> str:
        return "".join(_SPECIAL.get(one, f"\\{one}" if one in "&%$#_{}" else one) for one in cell)

    body = "".join(f"{' & '.join(map(escaped, row))} \\\\\n" for row in rows)
    title = " & ".join(map(escaped, head))
    rules = (f"\\begin{{tabular}}{{{'l' * len(head)}}}\n\\toprule\n", "\\midrule\n", "\\bottomrule\n\\end{tabular}\n")
    return f"{rules[0]}{title} \\\\\n{rules[1]}{body}{rules[2]}"
