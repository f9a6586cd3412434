"""Keep a sweep's trials and their outcomes in Optuna's storage, which many processes share."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import random
import secrets
import socket
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock

from cvx.files import read_json, write_json
from cvx.sweeps.sweep_file import Sweep, differences

if TYPE_CHECKING:
    import optuna

NUM_STARTUP = 5
"""Trials that bayes draws at random before it has something to go by."""
NUM_ASKED = 5
"""Times that bayes may suggest known points before a random one is taken."""
NUM_DRAWS = 200
"""Draws after which a space that only gives known points counts as used up."""
DONE = ("finished", "stopped")
"""What is not run again; failed and killed trials are."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One attempt at one point of the space."""

    number: int
    id: str
    """Stands at the end of its run's folder name."""
    key: str
    """Two trials share it exactly if they have the same parameters."""
    values: Mapping[str, Any]
    status: str
    """running, finished, stopped (early, by the sweep), failed or killed."""
    history: tuple[float, ...] = ()
    run: str = ""
    error: str = ""
    started: float = 0.0
    seconds: float = 0.0
    owner: str = ""
    resumes: str = ""
    """The run it continues from its saved state."""


def key_of(values: Mapping[str, Any]) -> str:
    """Return 12 hex digits that stand for a trial's parameters."""
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True, default=str).encode()).hexdigest()[:12]


class Ledger:
    """A sweep's trials. Every change happens under one lock, so that no point is taken twice."""

    def __init__(self, folder: Path, sweep: Sweep, seed: int = 0):
        import optuna

        pass

        self.folder, self.sweep, self._seed = folder, sweep, seed
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
        self._alive = FileLock(_owner_file(folder, self.owner))
        (folder / "owners").mkdir(exist_ok=True)
        self._alive.acquire()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self._lock:
            self._remember()
            self._study = optuna.create_study(
                storage=open_journal(folder),
                study_name="sweep",
                direction="maximize" if sweep.metric and sweep.metric.maximize else "minimize",
                load_if_exists=True,
            )

    def close(self) -> None:
        """Let others know that this process looks after no trial any more."""
        self._alive.release()
        _owner_file(self.folder, self.owner).unlink(missing_ok=True)

    def _remember(self) -> None:
        path, now = self.folder / "sweep.json", self.sweep.fingerprint()
        if not path.is_file():
            write_json(path, {"file": str(self.sweep.file), "fingerprint": now})
        elif changed := differences(read_json(path)["fingerprint"], now):
            raise ValueError(
                f"{self.sweep.file}: {', '.join(changed)} changed since {self.folder} was begun;"
                " start another sweep with --name=NAME, or delete that folder"
            )

    def trials(self) -> list[Trial]:
        """Return the newest attempt at every point, oldest first."""
        newest = {trial.key: trial for trial in self._attempts()}
        return sorted(newest.values(), key=lambda trial: trial.number)

    def _attempts(self) -> Iterator[Trial]:
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.name != "WAITING" and "key" in trial.user_attrs:
                yield _trial(trial)

    def claim(self, limit: int | None, retries: Iterable[str] = ()) -> Trial | None:
        """Take the next point for this process to run, or None if there is none.

        Args:
            limit: Points that the whole sweep visits at most.
            retries: Keys of failed and killed points, to be tried again first.
        """
        with self._lock:
            known = {trial.key: trial for trial in self.trials()}
            for key in retries:
                if key in known and known[key].status not in (*DONE, "running"):
                    return self._again(known[key])
            if limit is not None and len(known) >= limit:
                return None
            return self._grid_point(known) if self.sweep.method == "grid" else self._drawn_point(known)

    def _again(self, before: Trial) -> Trial:
        frozen = self._study.get_trials(deepcopy=False)[before.number]
        return self._begin(frozen.params, before.run if before.status == "killed" else "")

    def _grid_point(self, known: Mapping[str, Trial]) -> Trial | None:
        axes = [parameter.grid() for parameter in self.sweep.parameters]
        for places in itertools.product(*(range(len(axis)) for axis in axes)):
            values = {
                parameter.name: axis[i] for parameter, axis, i in zip(self.sweep.parameters, axes, places, strict=True)
            }
            if key_of(values) not in known:
                return self._begin(dict(zip(values, places, strict=True)))
        return None

    def _drawn_point(self, known: Mapping[str, Trial]) -> Trial | None:
        count = len(self._study.get_trials(deepcopy=False))
        if self.sweep.method == "bayes" and len(known) >= NUM_STARTUP:
            for attempt in range(NUM_ASKED):
                suggested = self._suggestion(count + attempt)
                if key_of(self._values(suggested.params)) not in known:
                    return self._mark(suggested)
                self._study.tell(suggested, state=_states().FAIL)
        for attempt in range(NUM_DRAWS):
            drawn = self._random(count + attempt)
            if key_of(self._values(drawn)) not in known:
                return self._begin(drawn)
        return None

    def _random(self, number: int) -> dict[str, float]:
        """Draw a point that depends on seed and trial number alone, whichever process asks."""
        drawn = {}
        for parameter in self.sweep.parameters:
            u = random.Random(zlib.crc32(f"{self._seed}/{number}/{parameter.name}".encode())).random()
            drawn[parameter.name] = parameter.at(u)
        return drawn

    def _suggestion(self, number: int) -> "optuna.Trial":
        """Ask a Gaussian process for the largest expected improvement (Ament et al., 2023, arXiv:2310.20708)."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.sampler = optuna.samplers.GPSampler(seed=self._seed + number, n_startup_trials=0)
        return self._study.ask(self._distributions())

    def _distributions(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        grid = self.sweep.method == "grid"
        return {
            parameter.name: CategoricalDistribution(range(len(parameter.grid() if grid else parameter.choices or ())))
            if grid or parameter.choices is not None
            else FloatDistribution(0.0, 1.0)
            for parameter in self.sweep.parameters
        }

    def _values(self, drawn: Mapping[str, float]) -> dict[str, Any]:
        if self.sweep.method == "grid":
            return {parameter.name: parameter.grid()[int(drawn[parameter.name])] for parameter in self.sweep.parameters}
        return {parameter.name: parameter.value(drawn[parameter.name]) for parameter in self.sweep.parameters}

    def _begin(self, drawn: Mapping[str, float], resumes: str = "") -> Trial:
        self._study.enqueue_trial(dict(drawn))
        return self._mark(self._study.ask(self._distributions()), resumes)

    def _mark(self, optuna_trial: "optuna.Trial", resumes: str = "") -> Trial:
        """Make a trial of Optuna's one of ours; the key comes last, and without it nobody sees the trial."""
        values = self._values(optuna_trial.params)
        facts = {
            "id": secrets.token_hex(4),
            "values": values,
            "status": "running",
            "owner": self.owner,
            "started": time.time(),
            "resumes": resumes,
            "key": key_of(values),
        }
        for name, fact in facts.items():
            optuna_trial.set_user_attr(name, fact)
        return _trial(self._study.get_trials(deepcopy=False)[optuna_trial.number])

    def report(self, trial: Trial, history: Sequence[float], known: int) -> None:
        """Tell all processes a trial's values of the metric from the `known`-th on."""
        live = self._live(trial)
        for step in range(known, len(history)):
            live.report(history[step], step)

    def _live(self, trial: Trial) -> "optuna.Trial":
        import optuna

        return optuna.Trial(self._study, self._study.get_trials(deepcopy=False)[trial.number]._trial_id)

    def settle(self, trial: Trial, status: str, best: float | None, run: str = "", error: str = "") -> None:
        """Write down how a trial ended."""
        with self._lock:
            if self._study.get_trials(deepcopy=False)[trial.number].state.is_finished():
                return
            facts = {"status": status, "run": run, "error": error, "seconds": round(time.time() - trial.started, 1)}
            for name, fact in facts.items():
                self._live(trial).set_user_attr(name, fact)
            # what a stopped trial reached tells the search as much as what a finished one did
            done, state = status in DONE, _states()
            value = (best or 0.0) if done else None
            self._study.tell(trial.number, value, state=state.COMPLETE if done else state.FAIL)

    def adopt(self) -> list[Trial]:
        """Take over the running trials whose process looks after them no more: it was killed."""
        with self._lock:
            orphans = [trial for trial in self.trials() if trial.status == "running" and self._is_gone(trial.owner)]
            for trial in orphans:
                self._live(trial).set_user_attr("owner", self.owner)
        return [dataclasses.replace(trial, owner=self.owner) for trial in orphans]

    def _is_gone(self, owner: str) -> bool:
        """Say whether a process is dead: the lock it held all its life is free."""
        if owner == self.owner:
            return False
        try:
            with FileLock(_owner_file(self.folder, owner), timeout=0):
                return True
        except Timeout:
            return False


def _owner_file(folder: Path, owner: str) -> Path:
    return folder / "owners" / f"{owner}.lock"


def _states() -> "type[optuna.trial.TrialState]":
    from optuna.trial import TrialState

    return TrialState


def _trial(frozen: "optuna.trial.FrozenTrial") -> Trial:
    facts = {field.name for field in dataclasses.fields(Trial)} & set(frozen.user_attrs)
    steps = sorted(frozen.intermediate_values)
    history = tuple(frozen.intermediate_values[step] for step in steps)
    return Trial(number=frozen.number, history=history, **{name: frozen.user_attrs[name] for name in facts})


def open_journal(folder: Path) -> JournalStorage:
    """Open a sweep's storage, or make it."""
    return JournalStorage(_WholeLines(folder / "trials.journal"))


class _WholeLines(JournalFileBackend):
    """A journal that takes away what a killed process or a full disk left of a line: nobody could read on behind it."""

    def __init__(self, path: Path) -> None:
        # links, Optuna's own choice, need a privilege on Windows
        self._mine = JournalFileOpenLock(str(path)) if os.name == "nt" else JournalFileSymlinkLock(str(path))
        self._path = path
        super().__init__(str(path), lock_obj=self._mine)
        self._mend()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError:
            self._mend()
            raise

    def _mend(self) -> None:
        if _is_whole(self._path):
            return
        with self._alone():
            if not _is_whole(self._path):
                os.truncate(self._path, self._path.read_bytes().rfind(b"\n") + 1)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until nobody writes: what looks like half a line may be one that is being written."""
        self._mine.acquire()
        try:
            yield
        finally:
            self._mine.release()


def _is_whole(path: Path) -> bool:
    with path.open("rb") as stream:
        if not (size := stream.seek(0, os.SEEK_END)):
            return True
        stream.seek(size - 1)
        return stream.read() == b"\n"
