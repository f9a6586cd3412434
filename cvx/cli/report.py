"""Write a report of a store: one HTML page, and with --project a W&B workspace and report too."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator

import cvx.cli


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """Write all that a store holds into one page that asks for nothing from the internet."""

    name: str = "report"
    """The page is reports/NAME.html in the store."""
    title: str = ""
    """The page's heading; default: what it is about."""
    num: int = 200
    """Samples of each dataset that agreement and mean maps are computed over."""
    project: str = ""
    """[ENTITY/]PROJECT of W&B: the same sections there, as a workspace and a report of the runs published to it."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    artifacts: str = ""
    """The store; default: CVX_ARTIFACTS or artifacts."""


def main(argv: list[str]) -> int:
    """Write the report, and print where it is."""
    flags = cvx.cli.parse(Flags, argv, "report")
    from cvx import config
    from cvx.distributed import pick_device
    from cvx.report import content, html, study
    from cvx.store import Store

    store = Store(flags.artifacts or config.default_artifacts())
    defaults = dataclasses.asdict(config.TrainConfig())
    with _telling() as tell:
        found = study.read(store, flags.num, pick_device(flags.device), defaults, show_progress=True, tell=tell)
        filled = content.fill(found, tell)
        path = html.write(found, filled, flags.name, flags.title)
    for problem in found.problems:
        print(f"warning: {problem}", file=sys.stderr)
    print(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if flags.project:
        from cvx.report import workspace

        for what, url in workspace.save(found, filled, flags.project, flags.name, flags.title).items():
            print(f"{what}: {url}")
    return 0


@contextlib.contextmanager
def _telling() -> Iterator[Callable[[str], None]]:
    """Show on a terminal which part of the report is being made."""
    from rich.console import Console

    with Console(stderr=True).status("reading the store") as status:
        yield status.update
