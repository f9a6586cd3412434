"""Run a sweep's trials side by side: watch them, stop them early, and end them on Ctrl-C."""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, runtime_checkable

from cvx.store.layout import StoreLayout
from cvx.sweeps.sweep_file import Sweep
from cvx.sweeps.trial_process import Job
from cvx.sweeps.trials import DONE, Ledger, Trial

LOOK_S = 1.0
"""Seconds between two looks at what the running trials record."""
POLL_S = 0.05
"""Seconds between two looks at whether they still run."""
FAILURES = 5
"""Failures in a row, with nothing finished yet, after which a sweep gives up."""


@runtime_checkable
class SweepDisplay(Protocol):
    """Somebody who shows a sweep."""

    def began(self, trial: Trial) -> None:
        """Hear that a trial started."""

    def ended(self, trial: Trial) -> None:
        """Hear how a trial ended."""

    def show(self, trials: Sequence[Trial], epochs: Mapping[int, float]) -> None:
        """Hear all trials, and the epochs that those running here have reached, by number."""


class InterruptedSweep(KeyboardInterrupt):
    """A sweep was asked to stop; its trials are ended and written down."""

    def __init__(self, words: str, signum: int):
        super().__init__(words)
        self.signum = signum


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a sweep is run here; no part of what it searches."""

    artifacts: Path
    name: str
    count: int | None = None
    """Points that the sweep visits at most, those of other processes and earlier calls included."""
    jobs: int = 1
    resume: bool = False
    """Run failed and killed trials again."""
    seed: int = 0
    flags: tuple[str, ...] = ()
    """What is put behind every trial's command line."""

    @property
    def folder(self) -> Path:
        """Return where the sweep's ledger, logs and plots lie."""
        return StoreLayout(self.artifacts).sweeps_root / self.name


def limit(sweep: Sweep, count: int | None) -> int | None:
    """Return how many points a sweep visits at most; None is the whole grid.

    Raises:
        ValueError: If nothing would ever end it.
    """
    given = [number for number in (count, sweep.run_cap) if number is not None]
    if not given and sweep.method != "grid" and not (sweep.metric and sweep.metric.target is not None):
        raise ValueError(f"{sweep.file}: method {sweep.method} never ends by itself; give --count=N or write run_cap")
    return min(given, default=None)


def run(sweep: Sweep, plan: Plan, view: SweepDisplay) -> list[Trial]:
    """Run a sweep's trials until its points, or those asked for, are used up; return them all.

    Raises:
        ValueError: If the file changed since the sweep was begun, or every trial fails.
        InterruptedSweep: If SIGINT or SIGTERM asked for a stop.
    """
    most = limit(sweep, plan.count)
    ledger = Ledger(plan.folder, sweep, plan.seed)
    try:
        with _signals() as heard:
            return _Runner(sweep, plan, ledger, view, most, heard).run()
    finally:
        ledger.close()


class _Runner:
    """The state of a running sweep: its jobs, and the keys that are tried again."""

    def __init__(
        self, sweep: Sweep, plan: Plan, ledger: Ledger, view: SweepDisplay, most: int | None, heard: Sequence[int]
    ):
        self.sweep, self.plan, self.ledger, self.view, self.most, self.heard = sweep, plan, ledger, view, most, heard
        self.jobs = [self._job(orphan) for orphan in ledger.adopt()]
        self.retries = (
            [trial.key for trial in ledger.trials() if trial.status in ("failed", "killed")] if plan.resume else []
        )
        self.failures = 0

    def run(self) -> list[Trial]:
        try:
            return self._run()
        except BaseException:
            for job in self.jobs:
                job.kill()
            raise

    def _run(self) -> list[Trial]:
        while True:
            self._settle_ended()
            if self.heard or self.failures >= FAILURES:
                self._end()
            while len(self.jobs) < self.plan.jobs and not self._reached() and self._start():
                pass
            if not self.jobs:
                break
            self._watch()
            self._pause()
        self._show()
        return self.ledger.trials()

    def _job(self, trial: Trial) -> Job:
        return Job(self.sweep, trial, self.plan.folder, self.plan.artifacts)

    def _start(self) -> bool:
        trial = self.ledger.claim(self.most, self.retries)
        if trial is None:
            return False
        if trial.key in self.retries:
            self.retries.remove(trial.key)
        job = self._job(trial)
        try:
            job.start(self.plan.flags, _threads(self.plan.jobs))
        except (OSError, ValueError) as error:
            self.ledger.settle(trial, "failed", None, error=str(error))
            raise
        self.jobs.append(job)
        self.view.began(trial)
        return True

    def _reached(self) -> bool:
        metric = self.sweep.metric
        if metric is None or metric.target is None:
            return False
        return any(metric.reached(metric.best(trial.history)) for trial in self.ledger.trials())

    def _watch(self) -> None:
        for job in self.jobs:
            known = len(job.history)
            if job.look():
                self.ledger.report(job.trial, job.history, known)
        histories = [trial.history for trial in self.ledger.trials()]
        rule, metric = self.sweep.early_stop, self.sweep.metric
        for job in self.jobs:
            if job.stop_reason or (rule and metric and rule.stops(job.history, histories, metric.maximize)):
                job.stop("stopped")
        self._show()

    def _pause(self) -> None:
        """Wait for the next look, less long if a trial ends or a signal comes."""
        until = time.monotonic() + LOOK_S
        while time.monotonic() < until and not self.heard and all(job.alive() for job in self.jobs):
            time.sleep(POLL_S)

    def _show(self) -> None:
        self.view.show(self.ledger.trials(), {job.trial.number: job.epoch for job in self.jobs})

    def _settle_ended(self) -> None:
        for job in [job for job in self.jobs if not job.alive()]:
            self.jobs.remove(job)
            self._settle(job)

    def _settle(self, job: Job) -> None:
        known = len(job.history)
        status, error = job.outcome()
        self.ledger.report(job.trial, job.history, known)
        best = self.sweep.metric.best(job.history) if self.sweep.metric else None
        run = job.run()
        self.ledger.settle(job.trial, status, best, run.name if run else "", error)
        if status == "stopped":
            job.tidy()
        ended = next(trial for trial in self.ledger.trials() if trial.key == job.trial.key)
        self.failures = self.failures + 1 if ended.status == "failed" else 0 if ended.status in DONE else self.failures
        if job.adopted and self.plan.resume and status == "killed":
            self.retries.append(job.trial.key)
        self.view.ended(ended)

    def _end(self) -> NoReturn:
        """Ask every trial to stop and wait for it; a second signal kills them."""
        while self.jobs:
            for job in self.jobs:
                job.stop("killed")
                if len(self.heard) > 1:
                    job.kill()
            time.sleep(0.05)
            self._settle_ended()
        trials = self.ledger.trials()
        if not self.heard:
            last = next(trial for trial in reversed(trials) if trial.status == "failed")
            raise ValueError(f"{self.failures} trials failed in a row; the last: {last.error}")
        done = sum(trial.status in DONE for trial in trials)
        raise InterruptedSweep(f"stopped with {done} of {len(trials)} trials done", self.heard[0])


def _threads(jobs: int) -> dict[str, str]:
    """Share the cores among the trials that run side by side, unless somebody has decided already."""
    if jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}


@contextlib.contextmanager
def _signals() -> Iterator[Sequence[int]]:
    """Collect SIGINT and SIGTERM in a list instead of acting on them."""
    heard: list[int] = []
    try:
        before = {
            signum: signal.signal(signum, lambda signum, _: heard.append(signum))
            for signum in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # signals belong to the main thread; elsewhere the caller stops the sweep
        yield heard
        return
    try:
        yield heard
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
