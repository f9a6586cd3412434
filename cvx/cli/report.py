"""Write a report of a store: one HTML page, and with --project a W&B workspace and report too."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cvx.cli
from cvx.cli.flags import OnDevice

if TYPE_CHECKING:
    from cvx.report.fill import Filled
    from cvx.store import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportFlags(OnDevice):
    """Write all that a store holds into one page that asks for nothing from the internet."""

    name: str = "report"
    """The page is reports/NAME.html in the store."""
    title: str = ""
    """The page's heading; default: what it is about."""
    run: str = ""
    """The name of a run: the page is of this one alone, reports/RUN.html."""
    num: int = 200
    """Samples of each dataset that agreement and mean maps are computed over."""
    num_often: int = 20
    """Images for faithfulness, sanity and stability, which ask a model many times per image; 0: only what `compare`
    has kept, which is taken first in any case."""
    budget_s: int = 120
    """Seconds that these three may take, by estimate; what would take longer is left to `compare`, and the page says
    so."""
    project: str = ""
    """[ENTITY/]PROJECT of W&B: the same sections there, as a workspace and a report of the project's runs."""


def main(argv: list[str]) -> int:
    """Parse flags, write the report, and print where it is."""
    return write_report(cvx.cli.parse(ReportFlags, argv, "report"))


def write_report(flags: ReportFlags) -> int:
    """Write the page of a store or of a run, and what W&B gets of it; print where they are."""
    from cvx import config
    from cvx.store.read_once import ReadOnce

    store = ReadOnce(flags.root)
    defaults = dataclasses.asdict(config.TrainConfig())
    if flags.run:
        return _one_run(store, flags, defaults)
    from cvx.report import fill, html
    from cvx.store.runs import list_runs

    html.page_path(store.root, flags.name)  # a wrong name is said before the work of a page
    filled: Sequence["Filled"] = fill.EMPTY
    if not flags.project or store.models() or list_runs(store.root):
        filled = _page(store, flags, defaults)
    else:
        print(f"the store {store.root} is empty: no page is written; W&B shows the project's own runs", file=sys.stderr)
    if flags.project:
        from cvx.report import wandb_workspace

        for what, url in wandb_workspace.save(store.root, filled, flags.project, flags.name, flags.title).items():
            print(f"{what}: {url}")
    return 0


def _page(store: "Store", flags: ReportFlags, defaults: dict[str, Any]) -> "list[Filled]":
    """Write the page of the whole store."""
    from cvx.distributed import pick_device
    from cvx.report import fill, html, read_store

    with _telling() as tell:
        device = pick_device(flags.device)
        how: dict[str, Any] = {"num_often": flags.num_often, "budget_s": flags.budget_s}
        found = read_store.read(store, flags.num, device, defaults, show_progress=True, tell=tell, **how)
        filled = fill.fill(found, tell)
        path = html.write(store.root, html.render(found, filled, flags.title), flags.name)
    for problem in found.problems:
        print(f"warning: {problem}", file=sys.stderr)
    if left := [f"{kind} of {dataset}" for (kind, dataset), one in found.often.items() if one.options is None]:
        print(f"left to `python -m cvx compare`, as the page says: {', '.join(left)}", file=sys.stderr)
    _say(path)
    return filled


def _one_run(store: "Store", flags: ReportFlags, defaults: dict[str, Any]) -> int:
    """Write the page of one run."""
    from cvx.distributed import pick_device
    from cvx.report import html, run_page
    from cvx.store.runs import list_runs

    known = {run.name: run for run in list_runs(store.root)}
    if flags.project:
        raise ValueError("--run writes a page here; on W&B a run has its page already, under `report`: leave one out")
    if flags.run not in known:
        raise ValueError(f"no run {flags.run!r} in {store.root}; known: {', '.join(known) or 'none'}")
    page = run_page(store, known[flags.run], defaults, pick_device(flags.device))
    _say(html.write(store.root, page.decode("utf-8"), flags.run))
    return 0


def _say(path: Path) -> None:
    print(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")


@contextlib.contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """Show on a terminal which part of the report is being made, on one line that progress bars may take over."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return

    def show(what: str) -> None:
        print(f"\r\x1b[2K{what}", end="", file=sys.stderr, flush=True)

    try:
        yield lambda what: show(f"{what} …")
    finally:
        show("")
