"""Run one trial as a process: start it, watch it through its run's folder, end it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cvx.processes import finding_cvx
from cvx.store import runs
from cvx.store.layout import StoreLayout
from cvx.sweeps.sweep_file import Sweep, argv
from cvx.sweeps.trials import Trial

GRACE_S = 30.0
"""How long a trial may take to end after SIGTERM; then it is killed."""


class Job:
    """A trial's process: one that was started here, or one that a killed sweep left behind.

    The process writes what it says to a log file and holds a lock on it through its standard output, so that whoever
    comes after a killed sweep can see that it still runs.
    """

    def __init__(self, sweep: Sweep, trial: Trial, folder: Path, artifacts: Path):
        self.sweep, self.trial, self.folder, self.artifacts = sweep, trial, folder, artifacts
        self.log = folder / "logs" / f"{trial.id}.log"
        self._pid = self.log.with_suffix(".pid")
        self.history: list[float] = list(trial.history)
        self.epoch = 0.0
        self.stop_reason = ""
        self._resumes = False
        self._process: subprocess.Popen | None = None
        self._size = -1
        self._deadline = 0.0

    def start(self, extra: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start the process.

        Args:
            extra: Flags of the command line after the file's own.
            environ: Variables beside those of this process.
        """
        line = [*argv(self.sweep, self.trial.values, self.folder / "args" / f"{self.trial.id}.json"), *extra]
        self._resumes = self._can_resume()
        if self._resumes:
            line.append(f"--resume={self.trial.resumes}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        identity = {
            "CVX_ARTIFACTS": str(self.artifacts),
            "WANDB_RUN_ID": self.trial.resumes.rpartition("-")[2] if self._resumes else self.trial.id,
            "PYTHONUNBUFFERED": "1",
        }
        environ = {**finding_cvx(os.environ), **environ, **identity}
        environ.pop("WANDB_SWEEP_ID", None)  # this sweep is none of W&B's
        with self.log.open("ab") as stream:
            _lock(stream.fileno())
            self._process = subprocess.Popen(
                line,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the sweep alone, which then asks its trials to stop
            )
        self._pid.write_text(f"{socket.gethostname()} {self._process.pid}", encoding="utf-8")

    @property
    def adopted(self) -> bool:
        """Say whether the process was started by another sweep, since killed."""
        return self._process is None

    def _can_resume(self) -> bool:
        state = self._before.state
        return bool(self.trial.resumes) and self.sweep.trains and any(state.glob("state.*"))

    @property
    def _before(self) -> runs.Run:
        return runs.Run(StoreLayout(self.artifacts).runs_root / self.trial.resumes)

    def run(self) -> runs.Run | None:
        """Return the run that the trial records, or None while there is none."""
        if self._resumes:
            return self._before
        folders = [path for path in StoreLayout(self.artifacts).runs_root.glob(f"*-{self.trial.id}") if path.is_dir()]
        if not folders and self.adopted and self.trial.resumes:
            return self._before
        return runs.Run(folders[0]) if folders else None

    def alive(self) -> bool:
        """Say whether the process still runs."""
        if self._process is not None:
            return self._process.poll() is None
        return _is_locked(self.log)

    def look(self) -> bool:
        """Read what the run has recorded since the last look; say whether there was anything new."""
        run = self.run()
        if run is None or self.sweep.metric is None:
            return False
        try:
            size = run.metrics_path.stat().st_size
        except OSError:
            return False
        if size == self._size:
            return False
        self._size, rows, name = size, run.rows(), self.sweep.metric.name
        self.history = [row[name] for row in rows if row.get(name) is not None]
        self.epoch = max((row["epoch"] for row in rows), default=0.0)
        return True

    def stop(self, why: str) -> None:
        """Ask the process to end: with SIGTERM, and after a while with SIGKILL."""
        if not self.stop_reason:
            self.stop_reason, self._deadline = why, time.monotonic() + GRACE_S
            self._send(signal.SIGTERM)
        elif time.monotonic() > self._deadline:
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._send(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _send(self, signum: int) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
        elif self.alive() and self._pid.is_file():
            host, pid = self._pid.read_text(encoding="utf-8").split()
            if host == socket.gethostname():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signum)

    def outcome(self) -> tuple[str, str]:
        """Say how the ended process ended: a status, and what it said if it failed."""
        self._size = -1
        self.look()
        run, code = self.run(), self._process.returncode if self._process is not None else None
        done = run is not None and run.summary is not None
        if self.stop_reason and not done:
            return self.stop_reason, ""
        if code not in (0, None):
            killed = code < 0 or code in (130, 137, 143)
            return ("killed" if killed else "failed"), self.last_log_line() or f"exit code {code}"
        if code is None and not done:
            return "killed", "its sweep was killed"
        return self._verdict(run)

    def _verdict(self, run: runs.Run | None) -> tuple[str, str]:
        if run is None:
            return "failed", f"the command ended well but wrote no run into {self.artifacts / 'runs'}"
        if self.sweep.metric is None or self.history:
            return "finished", ""
        logged = sorted({key for row in run.rows() for key in row} - {"step", "epoch", "time"})
        return "failed", f"it recorded no {self.sweep.metric.name}; it recorded {', '.join(logged) or 'nothing'}"

    def last_log_line(self) -> str:
        """Return the last line that the process said."""
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""

    def tidy(self) -> None:
        """Drop the saved state of a trial that was stopped early: it will not go on."""
        run = self.run()
        if run is not None:
            shutil.rmtree(run.state, ignore_errors=True)


def _lock(descriptor: int) -> None:
    if os.name != "nt":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_locked(path: Path) -> bool:
    """Say whether some process holds the lock of a log file; where there are no such locks, none does."""
    if os.name == "nt" or not path.is_file():
        return False
    import fcntl

    with path.open("rb") as stream:
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
