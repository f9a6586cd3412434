"""Draw what models look at: a figure per image, a page per class, and the raw maps."""

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import tyro

import cvx.cli
from cvx.cli.flags import OnDevice, ToWandb, WithData, store_flag
from cvx.maps.request import Question

if TYPE_CHECKING:
    from cvx.distributed import Ranks
    from cvx.maps.class_summary import ClassSummary
    from cvx.maps.map_folder import MapFolder
    from cvx.store import Store
    from cvx.tracking import Findings

Drawn = TypeVar("Drawn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributeFlags(Question, OnDevice, WithData, ToWandb):
    """Draw the maps of stored models into the store's folder `attributions`."""

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """NAME, NAME:best, NAME:latest, NAME:v3 or NAME@RUN; several of one dataset also side by side."""
    all: bool = False
    """Take the best version of every model in the store; those that fail are named at the end."""

    def __post_init__(self) -> None:
        """Leave the check to the question itself, whose errors are one line where tyro's are a box."""

    def question(self) -> Question:
        """Return what is asked, checked."""
        return Question(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Question)})


def main(argv: list[str]) -> int:
    """Parse flags, draw the maps and print a table of them; exit code 1 if a model failed."""
    return draw_maps(cvx.cli.parse(AttributeFlags, argv, "attribute"))


def draw_maps(flags: AttributeFlags) -> int:
    """Draw the maps and print a table of what they say and where they lie; return 1 if a model failed.

    Raises:
        ValueError: If no model is named, or models and --all are.
    """
    if bool(flags.models) == flags.all:
        got = f", not both: got {' '.join(flags.models)} and --all" if flags.all else ""
        example = "python -m cvx attribute digits-resnet18"
        raise ValueError(f"name the models to draw, or give --all{got}; for example: {example}")
    return _sheets(flags) if flags.targets == "all" else _maps(flags)


def _maps(flags: AttributeFlags) -> int:
    """Draw the maps of one target per image."""
    from cvx.distributed import open_ranks
    from cvx.maps.map_folder import explain, side_by_side
    from cvx.store import Store
    from cvx.tracking import log_command

    store, question = Store(flags.root), flags.question()
    with log_command("attribute", flags.wandb, flags.project, store) as findings:
        with open_ranks(flags.device) as ranks:

            def draw(references: Sequence[str]) -> list["MapFolder"]:
                return explain(store, references, question, data_root=flags.data_root, ranks=ranks, show_progress=True)

            answers, failures = _each(store, flags, draw)
        for warning in (warning for answer in answers for warning in answer.warnings):
            print(f"warning: {warning}", file=sys.stderr)
        if answers:
            _print(answers, side_by_side(answers), flags.artifacts)
        _gather(findings, store, answers)
    return _ended(failures, ranks)


def _sheets(flags: AttributeFlags) -> int:
    """Draw all classes of a few images: little work, so the first rank does it alone."""
    from cvx.distributed import open_ranks
    from cvx.maps.all_classes import draw_every_class
    from cvx.store import Store

    if flags.wandb == "on":
        raise ValueError("targets=all stays in the store: W&B gets no sheets; leave --wandb=on out")
    store, question = Store(flags.root), flags.question()
    with open_ranks(flags.device) as ranks:

        def draw(references: Sequence[str]) -> list[tuple[Path, int]]:
            return [draw_every_class(store, reference, question, ranks.device) for reference in references]

        drawn, failures = _each(store, flags, draw) if ranks.is_main else ([], [])
    for folder, num in drawn:
        print(f"maps of every class:  {folder}  ({num} images)")
    return _ended(failures, ranks)


def _each(
    store: "Store", flags: AttributeFlags, draw: Callable[[Sequence[str]], list[Drawn]]
) -> tuple[list[Drawn], list[str]]:
    """Draw the models named; with --all every one of the store, past those that fail, which are returned with why."""
    if not flags.all:
        return draw(flags.models), []
    entries = store.best()
    if not entries:
        raise ValueError(f"the store {store.root} holds no model yet; `python -m cvx starter` trains some")
    drawn, failures = [], []
    for entry in entries:
        try:
            drawn += draw([entry.reference])
        except (ValueError, OSError) as error:
            failures.append(f"{entry.reference}: {error}")
    return drawn, failures


def _ended(failures: Sequence[str], ranks: "Ranks") -> int:
    for failure in failures if ranks.is_main else ():
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _gather(findings: "Findings", store: "Store", answers: Sequence["MapFolder"]) -> None:
    """Hand over what the maps say, class by class, and each class's page with its mean map."""
    from cvx.maps.map_folder import file_stems

    columns = ("model", "class", "images", "recognized", "center bias", "mass on mask", "chance", "zero maps")
    rows: list[list[object]] = []
    for answer in answers:
        findings.models.append(store.resolve(answer.reference))
        findings.question = dataclasses.asdict(answer.question)
        stems = dict(zip(answer.images.classes, file_stems(answer.images.classes), strict=True))
        pages = [answer.folder / "classes" / f"{stems[view.class_name]}.png" for view in answer.views]
        captions = [f"{answer.reference}: {view.class_name}, {view.num} images" for view in answer.views]
        findings.pictures[f"maps/{answer.card.name}"] = list(zip(pages, captions, strict=True))
        for one in answer.views:
            numbers = (one.num, one.accuracy, one.center_bias, one.mass_on_mask, one.mask_share, one.num_zero)
            rows.append([answer.reference, one.class_name, *numbers])
    findings.tables["classes"] = (columns, rows)


def _print(answers: Sequence["MapFolder"], together: Sequence[Path], artifacts: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("model", no_wrap=True)
    for name in ("images", "recognized", "center\nbias", "mass on mask\n(chance)", "zero\nmaps"):
        table.add_column(name, justify="right", no_wrap=True)
    for answer in answers:
        table.add_row(answer.reference, *_numbers(answer.views))
    console = Console()
    console.print(table)
    for answer in answers:
        console.print(f"maps:  {answer.folder}  ({answer.num_figures} figures)", highlight=False, soft_wrap=True)
    for folder in together:
        console.print(f"side by side:  {folder}", highlight=False, soft_wrap=True)
    console.print(f"demo:  python demo/app.py{store_flag(artifacts)}", highlight=False, soft_wrap=True)


def _numbers(views: Sequence["ClassSummary"]) -> list[str]:
    """Average the classes' numbers, each class weighing as many images as its number is of."""
    from cvx.plotting.labels import percent

    num, zero = sum(view.num for view in views), sum(view.num_zero for view in views)
    recognized = sum(view.accuracy * view.num for view in views) / num
    alive = [(view, view.num - view.num_zero) for view in views if view.num > view.num_zero]
    masked = [(view, weight) for view, weight in alive if view.mass_on_mask is not None]
    biased = [(view, weight) for view, weight in alive if not math.isnan(view.center_bias)]
    bias = f"{_mean(biased, 'center_bias'):.2f}" if biased else "–"
    pair = (percent(_mean(masked, name)) for name in ("mass_on_mask", "mask_share")) if masked else ()
    return [str(num), percent(recognized), bias, "{} ({})".format(*pair) if masked else "–", str(zero)]


def _mean(weighted: Sequence[tuple["ClassSummary", int]], name: str) -> float:
    return sum(getattr(view, name) * weight for view, weight in weighted) / sum(weight for _, weight in weighted)
