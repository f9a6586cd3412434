"""Write and read one run's folder: config, metrics, film, embeddings, summary."""

import dataclasses
import json
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int64

from cvx.files import json_text, read_json, whole_file, write_json
from cvx.store.layout import StoreLayout

CONFIG, METRICS, SUMMARY = "config.json", "metrics.jsonl", "summary.json"
"""Files of a run's folder: what was asked for, a row for each recorded step, the final numbers."""
FINAL = "test"
"""The frame of embeddings that is of the test images, drawn with the best weights."""
STAMP, STAMP_LENGTH = "%Y%m%d-%H%M%S", 15
"""The time that a run's name begins with."""
MAX_FRAMES = 60
"""Frames of the film, and of the embeddings, that one run keeps at most."""


@runtime_checkable
class Sink(Protocol):
    """Somebody who hears what a run records, line by line, after the files have it."""

    def start(self, folder: Path) -> None:
        """Hear where the run records; of a continued run, rows may lie there already."""

    def log(self, row: Mapping[str, float]) -> None:
        """Hear one row of metrics; `step`, `epoch` and `time` are among its keys."""

    def frame(self, kind: str, epoch: int, path: Path) -> None:
        """Hear that a film or embeddings frame was written."""

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Hear the final numbers; nothing follows."""


def frame_epochs(epochs: int) -> frozenset[int]:
    """Choose the epochs whose maps are kept: 0 (untrained), the last, and evenly spaced ones between."""
    if epochs < MAX_FRAMES:
        return frozenset(range(epochs + 1))
    return frozenset(int(x) for x in np.linspace(0, epochs, MAX_FRAMES).round())


def new_run_name(collection: str, name: str = "") -> str:
    """Make up a run's folder name: when, what, and four hex digits, the user's own name or a sweep's id of the run.

    A sweep hands the id over as `WANDB_RUN_ID`, as W&B's agents do, and finds the folder by it: it stands last.

    Raises:
        ValueError: If that name or id cannot be part of a folder's name.
    """
    stamp = datetime.now().strftime(STAMP)
    given = os.environ.get("WANDB_RUN_ID", "")
    for what, word in (("--name", name), ("WANDB_RUN_ID", given)):
        if word and not re.fullmatch(r"[A-Za-z0-9_.-]+", word):
            raise ValueError(f"{what} must be letters, digits, `_`, `.` and `-`, got {word!r}")
    own = [part for part in (name, given) if part] or [secrets.token_hex(2)]
    return "-".join([stamp, collection, *own])


def _a_second_later(name: str) -> str:
    """Return a run's name with the next second in it.

    Raises:
        FileExistsError: If it does not begin with a time, and so cannot be changed.
    """
    stamp, rest = name[:STAMP_LENGTH], name[STAMP_LENGTH:]
    try:
        return (datetime.strptime(stamp, STAMP) + timedelta(seconds=1)).strftime(STAMP) + rest
    except ValueError:
        raise FileExistsError(f"there is a run {name} already; name the new one differently") from None


class RunWriter:
    """Writes one run's folder. Rows are appended; all else is written once, whole or not at all."""

    def __init__(self, folder: Path, sinks: Sequence[Sink] = ()):
        self.folder = folder
        self.sinks = tuple(sinks)
        self._started = time.time()

    @classmethod
    def create(cls, folder: Path, config: Mapping[str, Any], sinks: Sequence[Sink] = ()) -> "RunWriter":
        """Start a new run's folder with its config.

        Runs that begin in one second may have one name, where `--name` or WANDB_RUN_ID stays the same: the second of
        them is named by the second that follows.
        """
        while True:
            try:
                folder.mkdir(parents=True, exist_ok=False)
                break
            except FileExistsError:
                folder = folder.with_name(_a_second_later(folder.name))
        write_json(folder / CONFIG, dict(config))
        return cls(folder, sinks)

    @classmethod
    def reopen(cls, folder: Path, step: int, elapsed_s: float, sinks: Sequence[Sink] = ()) -> "RunWriter":
        """Continue a run after `step`: what was recorded beyond it is dropped, since it will be recorded again."""
        writer = cls(folder, sinks)
        writer._started -= elapsed_s
        rows = [row for row in read_rows(folder) if row["step"] <= step]
        with whole_file(folder / METRICS) as temporary:
            temporary.write_text("".join(_line(row) for row in rows), encoding="utf-8")
        for sink in writer.sinks:
            sink.start(folder)
        return writer

    def elapsed_s(self) -> float:
        """Return the seconds this run has taken, those before a resume included."""
        return time.time() - self._started

    def log(self, step: int, epoch: float, metrics: Mapping[str, float]) -> dict[str, float]:
        """Append one row and return it."""
        row = {"step": step, "epoch": round(epoch, 4), "time": round(self.elapsed_s(), 3), **metrics}
        with (self.folder / METRICS).open("a", encoding="utf-8") as stream:
            stream.write(_line(row))
        for sink in self.sinks:
            sink.log(row)
        return row

    def rows(self) -> list[dict[str, float]]:
        """Return the rows written so far."""
        return read_rows(self.folder)

    def film(
        self,
        epoch: int,
        targets: Int64[np.ndarray, "n"],
        logits: Float[np.ndarray, "n k"],
        attribution: Float[np.ndarray, "n c h w"],
    ) -> None:
        """Write the maps of the film samples after an epoch."""
        self._frame("film", f"{epoch:04d}", epoch, attribution=attribution, targets=targets, logits=logits)

    def embeddings(self, name: str, epoch: int, **arrays: np.ndarray) -> None:
        """Write logits and their projections: `name` is the epoch, or `test` for the final ones."""
        self._frame("embeddings", name, epoch, **arrays)

    def _frame(self, kind: str, name: str, epoch: int, **arrays: np.ndarray) -> None:
        path = self.folder / kind / f"{name}.npz"
        with whole_file(path) as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
        for sink in self.sinks:
            sink.frame(kind, epoch, path)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the final numbers; a run with a summary is done."""
        write_json(self.folder / SUMMARY, dict(summary))
        for sink in self.sinks:
            sink.finish(summary)


def _line(row: Mapping[str, float]) -> str:
    return json_text(dict(row)) + "\n"


def read_rows(folder: Path) -> list[dict[str, float]]:
    """Read a run's metrics; a last line cut short by a kill is left out."""
    return RowReader(folder).read(final=True)


class RowReader:
    """Reads a run's metrics as they grow: each look gives the rows that are new."""

    def __init__(self, folder: Path):
        self._path = folder / METRICS
        self._place = self._num_read = 0

    def read(self, final: bool) -> list[dict[str, float]]:
        """Return the rows since the last look.

        Args:
            final: Nothing is being written: a last line that reads as a row is one, even if its end is missing.

        Raises:
            ValueError: If a line before the last is no JSON object.
        """
        if not self._path.is_file():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._place)
            lines = stream.read().splitlines(keepends=True)
        if lines and not final and not lines[-1].endswith(b"\n"):
            lines.pop()  # it is being written
        rows: list[dict[str, float]] = []
        for line in lines:
            row = _parse(line)
            if row is None and len(rows) < len(lines) - 1:
                raise ValueError(f"{self._path} is damaged: line {self._num_read + 1} is no JSON object")
            if row is not None:
                rows.append(row)
                self._place += len(line)
                self._num_read += 1
        return rows


def _parse(line: bytes) -> dict[str, float] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # no JSON, or no text at all
        return None
    return row if isinstance(row, dict) else None


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder, read lazily."""

    folder: Path

    @property
    def name(self) -> str:
        """Return the folder's name."""
        return self.folder.name

    @property
    def store_root(self) -> Path:
        """Return the root of the store that the run lies in."""
        return self.folder.parent.parent

    @property
    def metrics_path(self) -> Path:
        """Return where the rows of metrics lie."""
        return self.folder / METRICS

    @property
    def state(self) -> Path:
        """Return the folder of the state from which a stopped run goes on; a run that is done has none."""
        return self.folder / "state"

    @property
    def final_embeddings(self) -> Path:
        """Return where the final logits of the stored test samples and their projections lie."""
        return self.folder / "embeddings" / f"{FINAL}.npz"

    @property
    def exists(self) -> bool:
        """Tell whether there is such a run: its config is the first that is written."""
        return (self.folder / CONFIG).is_file()

    @property
    def done(self) -> bool:
        """Tell whether the run ended and wrote its final numbers."""
        return (self.folder / SUMMARY).is_file()

    @property
    def config(self) -> dict[str, Any]:
        """Return `config.json`: config, place, key, git commit, versions."""
        return read_json(self.folder / CONFIG)

    @property
    def summary(self) -> dict[str, Any] | None:
        """Return the final numbers, or None while the run is not done."""
        return read_json(self.folder / SUMMARY) if self.done else None

    def rows(self) -> list[dict[str, float]]:
        """Return the rows of metrics in the order they were recorded."""
        return read_rows(self.folder)

    def frames(self, kind: str) -> dict[int, Path]:
        """Return the film's or embeddings' frames by epoch."""
        paths = sorted((self.folder / kind).glob("[0-9]*.npz"))
        return {int(path.stem): path for path in paths}


def list_runs(root: Path) -> list[Run]:
    """List the runs of a store, oldest first."""
    folder = StoreLayout(root).runs_root
    return [run for path in sorted(folder.iterdir()) if (run := Run(path)).exists] if folder.is_dir() else []
