"""Run a W&B sweep file with no account: trials in parallel, resumable; the best and how to get it again."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

import cvx.cli
from cvx.cli.flags import WithData

if TYPE_CHECKING:
    from cvx.sweeps.runner import Plan
    from cvx.sweeps.sweep_file import Sweep
    from cvx.sweeps.trials import Trial


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepFlags(WithData):
    """Run the trials of a W&B sweep file here.

    The same command again goes on where it was: finished trials are never run twice. Several processes may run it
    at once and share the trials. With an account, the same file: wandb sweep FILE, then wandb agent ID.
    """

    file: tyro.conf.Positional[Path]
    """A sweep file such as sweeps/starter_lr.yaml."""
    count: int = 0
    """Trials of the whole sweep, those of earlier calls and other processes included; 0: run_cap or the whole grid."""
    jobs: int = 1
    """Trials that run side by side."""
    resume: bool = False
    """Run failed and killed trials again; killed ones continue from their saved state."""
    save: Literal["file", "best_last", "best", "none"] = "file"
    """Weights that each trial keeps; file: as the sweep file's command says."""
    name: str = ""
    """The sweep's name in the store; default: the file's."""
    seed: int = 0
    """Seed of the search."""


def main(argv: list[str]) -> int:
    """Run a sweep; print its table, the best trial and the command that gives it again. Exit code 1 if any failed."""
    flags = cvx.cli.parse(SweepFlags, argv, "sweep")
    from cvx.sweeps import display, results, runner, sweep_file

    sweep = sweep_file.read(flags.file)
    plan = _plan(flags, sweep)
    if sweep.ignored:
        print(f"cvx sweep: {', '.join(sweep.ignored)} only matter to W&B's own search", file=sys.stderr)
    try:
        with display.view(sweep) as shown:
            trials = runner.run(sweep, plan, shown)
    except runner.InterruptedSweep as stop:
        again = [*(one for one in argv if one.partition("=")[0] != "--resume"), "--resume"]
        line = shlex.join(["python", "-m", "cvx", "sweep", *again])
        raise runner.InterruptedSweep(f"{stop}; continue with: {line}", stop.signum) from None
    _print(sweep, plan, trials, results.write(sweep, plan, trials))
    return 1 if any(one.status == "failed" for one in trials) else 0


def _plan(flags: SweepFlags, sweep: "Sweep") -> "Plan":
    from cvx.names import slug
    from cvx.sweeps import runner

    for name, lowest in (("count", 0), ("jobs", 1)):
        if getattr(flags, name) < lowest:
            raise ValueError(f"{name} must be at least {lowest or 1}, got {getattr(flags, name)}")
    if (flags.save != "file" or flags.data) and not sweep.trains:
        raise ValueError("--save and --data need a sweep file whose command is `cvx train`")
    behind = [f"--save={flags.save}"] if flags.save != "file" else []
    behind += [f"--data={flags.data_root.resolve()}"] if flags.data else []
    return runner.Plan(
        artifacts=flags.root.resolve(),
        name=slug(flags.name or flags.file.stem),
        count=flags.count or None,
        jobs=flags.jobs,
        resume=flags.resume,
        seed=flags.seed,
        flags=tuple(behind),
    )


def _print(sweep: "Sweep", plan: "Plan", trials: "list[Trial]", outcome) -> None:
    from rich.console import Console

    from cvx.sweeps import display

    console = Console()
    console.print(display.table(sweep, display.ranked(sweep, trials), {}, title=f"sweep {plan.name}"))
    left = sum(one.status in ("failed", "killed") for one in trials)
    elsewhere = sum(one.status == "running" for one in trials)
    if left:
        console.print(f"failed or killed: {left}; run them again with --resume", highlight=False)
    if elsewhere:
        console.print(f"still running in other processes: {elsewhere}", highlight=False)
    if outcome.best is None:
        console.print("no trial has finished with a value of the metric; there is no best", highlight=False)
        return
    best = outcome.best
    console.print(
        f"best:   trial {best.number}  {display.point(sweep, best)}  run {best.run}", highlight=False, soft_wrap=True
    )
    console.print(f"again:  {outcome.command}", highlight=False, soft_wrap=True)
    for plot in outcome.plots:
        near = plot.relative_to(Path.cwd()) if plot.is_relative_to(Path.cwd()) else plot
        console.print(f"plot:   {near}", highlight=False, soft_wrap=True)
