"""Send locally recorded runs to W&B, as if they had been online."""

import dataclasses
import sys
from typing import TYPE_CHECKING

import tyro

import cvx.cli
from cvx.cli.flags import InStore

if TYPE_CHECKING:
    from cvx.store.runs import Run
    from cvx.tracking import Published


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishFlags(InStore):
    """Send runs to W&B and check that all of it arrived; what is there already is not sent again."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of run folders; none: every run of the store."""
    project: str = ""
    """[ENTITY/]PROJECT; default: WANDB_PROJECT, or cvx."""


def main(argv: list[str]) -> int:
    """Publish the runs in turn and print one table; exit code 1 if anything is missing on W&B."""
    flags = cvx.cli.parse(PublishFlags, argv, "publish")
    from cvx.pipeline import page_of
    from cvx.tracking import publish, target
    from cvx.tracking.account import api

    where, chosen = target(flags.project), _chosen(flags)
    api()  # one clear word if there is no account or no answer, rather than one per run
    done, failures = [], []
    for run in chosen:
        try:
            done.append(publish(run.folder, where, page=page_of))
        except (ValueError, OSError) as error:
            failures.append(f"{run.name}: {error}")
    failures += [f"{one.run}: {one.missing}" for one in done if one.missing]
    if done:
        _print(done)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _chosen(flags: PublishFlags) -> "list[Run]":
    """Find the runs that are named, or take all."""
    from cvx.store.runs import list_runs

    known = {run.name: run for run in list_runs(flags.root)}
    if unknown := [name for name in flags.runs if name not in known]:
        raise ValueError(f"no run {unknown[0]!r} in {flags.root}; runs: {', '.join(known) or 'none'}")
    if not known:
        raise ValueError(f"the store {flags.root} holds no run yet; `python -m cvx train` records one")
    return [known[name] for name in flags.runs or known]


def _print(done: "list[Published]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "steps sent", "on W&B", "artifacts")
    for one in done:
        table.add_row(one.run, str(one.sent), f"{one.steps} of {one.recorded}", str(len(one.artifacts)))
    console = Console()
    console.print(table)
    for one in done:
        console.print(f"{one.url}", highlight=False, soft_wrap=True)
