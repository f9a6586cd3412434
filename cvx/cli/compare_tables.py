"""Print and write the tables and figures of `python -m cvx compare`."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid

from cvx import comparison
from cvx.comparison import Models, ModelTable, Options, Runtime, figures, tables
from cvx.comparison.request import entries_of, reference_of
from cvx.files import whole_file
from cvx.maps.map_folder import joint_name
from cvx.names import file_stems
from cvx.store import Store
from cvx.tracking.command_run import Findings


class Tables:
    """One comparison: each part is computed, printed, written and told to whoever sends it to W&B."""

    def __init__(
        self,
        store: Store,
        models: Models,
        options: Options,
        often: Options,
        runtime: Runtime,
        told: Findings | None = None,
    ) -> None:
        self._told = told or Findings()
        self._store, self._models, self._runtime = store, models, runtime
        self._options, self._often = options, often
        entries = entries_of(store, models)
        self._told.models += entries
        self._told.question |= {**dataclasses.asdict(options), "num_often": often.num}
        about = f"-on-{file_stems([options.samples])[0]}" if options.samples else ""
        names = [entry.reference.replace(":", "@") for entry in entries]
        self._folder = store.comparisons_root / (joint_name(names) + about)
        self._console = Console()
        self._findings: list[str] = []
        self._written: list[Path] = []

    def agreement(self) -> None:
        """How alike the models of one dataset look."""
        found = comparison.agreement(self._store, self._models, self._options, runtime=self._runtime)
        self._table("agreement", "How alike the models look", found.rows(), *tables.agreement_table(found))
        self._figure("agreement", figures.matrix_figure(found))
        self._findings += [found.sentence(i, j) for i, j in found.pairs()]
        for i, j in found.pairs():
            numbers = {name: found.interval(name, i, j).mean for name in found.names}
            self._numbers("agreement", f"{found.columns[i]}--{found.columns[j]}", {**numbers, "cka": found.cka[i, j]})
        told = ", ".join(
            f"{found.columns[i]} – {found.columns[j]} {comparison.decimal(found.cka[i, j])}" for i, j in found.pairs()
        )
        self._findings.append(f"How alike the models arrange the images by their logits (linear CKA): {told}.")

    def properties(self) -> None:
        """What the maps are like by themselves."""
        found = self._single("properties", comparison.properties, self._options, "What the maps are like by themselves")
        if len(set(found.datasets)) > 1:
            self._findings.append(comparison.WHY_NOT_PIXELWISE)

    def localization(self) -> None:
        """How much of the maps lies on masks."""
        self._single("localization", comparison.localization, self._options, "How much of the maps lies on the masks")

    def stability(self) -> None:
        """How much the maps change under a little noise."""
        self._single("stability", comparison.stability, self._often, "How much the maps change under a little noise")

    def faithfulness(self) -> None:
        """What the model says while pixels go or come."""
        found = comparison.faithfulness(self._store, self._models, self._often, self._runtime)
        title = "Probability of the class while pixels go or come: area under the curve"
        self._table("faithfulness", title, found.rows(), *tables.faithfulness_table(found))
        self._figure("faithfulness", figures.removal_figure(found))
        self._findings += [found.verdict(i) for i in range(len(found.references))]
        for i, column in enumerate(found.columns):
            self._numbers("faithfulness", column, {test: found.interval(i, test, "own").mean for test in found.tests})

    def sanity(self) -> None:
        """What randomization leaves of the maps."""
        found = comparison.sanity(self._store, self._models, self._often, self._runtime)
        title = "What is left of the maps when blocks are randomized from the output"
        self._table("sanity", title, found.rows(), *tables.sanity_table(found))
        self._figure("sanity", figures.sanity_figure(found))
        self._findings += [found.verdict(i) for i in range(len(found.references))]
        for i, column in enumerate(found.columns):
            left = {f"{name}_left": found.after(i, name, found.blocks(i)[-1]).mean for name in found.names}
            self._numbers("sanity", column, {**left, "class": found.class_sensitivity(i).mean})

    def training(self) -> None:
        """What the models' runs recorded while they trained."""
        found = comparison.training(self._store, self._models)
        flat = [row for one in found for row in one.rows()]
        self._table("training", "While they trained", flat, *tables.history_table(found))
        self._figure("training", figures.training_figure(found))
        self._findings += [one.settling.sentence() for one in found]

    def embeddings(self) -> None:
        """How well layouts of the test logits separate the classes."""
        flat = comparison.embeddings(self._store, self._models)
        title = "How well layouts of the test logits separate the classes"
        self._table("embeddings", title, flat, *tables.embeddings_table(flat))
        if pairs := comparison.alignment(self._store, self._models):
            title = "How alike two models arrange the test images (1 is the same but for turning, moving, scaling)"
            self._table("alignment", title, pairs, *tables.embeddings_table(pairs))
        self._figure("embeddings", figures.layouts_figure(comparison.layouts(self._store, self._models)))
        self._findings.append(comparison.LAYOUT_NOTE)

    def _single(self, kind: str, measure: Callable[..., ModelTable], options: Options, title: str) -> ModelTable:
        found = measure(self._store, self._models, options, self._runtime)
        self._table(kind, title, found.rows(), *tables.single_table(found))
        for i, column in enumerate(found.columns):
            self._numbers(kind, column, {name: found.interval(name, i).mean for name in found.names})
        return found

    def _numbers(self, kind: str, whose: str, numbers: Mapping[str, float]) -> None:
        """Take numbers that stand for themselves in W&B's summary; those that are undefined are left out."""
        for name, value in numbers.items():
            if not math.isnan(value):
                self._told.numbers[f"{kind}/{name}/{_NO_KEY.sub('_', whose)}"] = float(value)

    def _table(self, kind: str, title: str, flat: list[dict[str, Any]], head: list[str], rows: list[list[str]]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        names = list(dict.fromkeys(name for row in flat for name in row))
        self._told.tables[kind] = names, [[row.get(name) for name in names] for row in flat]
        self._written += tables.write_table(self._folder / kind, flat, head, rows)
        caption, padding = None, (0, 1)
        if _width(head, rows) > self._console.width:
            padding = (0, 0)
            rows = [[_INTERVAL.sub("", cell) for cell in row] for row in rows]
            caption = "what does not fit here: in the files, and on a wider terminal"
        table = Grid(box=SIMPLE_HEAD, padding=padding, title=title, title_justify="left", caption=caption)
        for cells in zip(head, *rows, strict=True):
            longest = max(len(word) for cell in cells for word in cell.split())
            table.add_column(cells[0], overflow="fold", min_width=min(24, longest))
        before = ""
        for row in rows:
            table.add_row("" if row[0] == before else row[0], *row[1:])
            before = row[0]
        self._console.print(table)

    def _figure(self, kind: str, png: bytes) -> None:
        path = self._folder / f"{kind}.png"
        with whole_file(path) as temporary:
            temporary.write_bytes(png)
        self._written.append(path)
        self._told.pictures[f"{kind}_figure"] = [(path, f"{kind} of {', '.join(map(reference_of, self._models))}")]

    def finish(self, flag: str) -> None:
        """Print and write the findings, and say where all lies."""
        if self._findings:
            path = self._folder / "findings.md"
            with whole_file(path) as temporary:
                temporary.write_text("".join(f"* {line}\n" for line in self._findings), encoding="utf-8")
            self._written.append(path)
        for line in self._findings:
            self._console.print(f"• {line}", highlight=False, markup=False)
        files = ", ".join(dict.fromkeys(path.name for path in self._written))
        self._console.print(f"written:  {self._folder}  ({files})", highlight=False, soft_wrap=True)
        self._console.print(f"demo:  python demo/app.py{flag}", highlight=False, soft_wrap=True)


_NO_KEY = re.compile(r"[^\w-]")
"""What a key must not hold: W&B takes a dot or a slash for nesting."""
_INTERVAL = re.compile(r" \[[^\]]*\]")


def _width(head: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Return the columns that a table takes if nothing is broken."""
    return sum(max(map(len, cells)) + 3 for cells in zip(head, *rows, strict=True)) + 2
