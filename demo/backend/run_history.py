"""Read the store's runs for the page: their list, metrics, films and embeddings, with a bounded cache."""

import os
import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import Float32, Int64

from cvx.attribution import to_heatmap
from cvx.metrics.classification import softmax
from cvx.metrics.embedding import METHODS
from cvx.store.npz import read_frame
from cvx.store.runs import Run, list_runs
from cvx.tracking import read_link, without_credentials  # by the package: another thread may be importing it whole
from demo.backend.catalog import modified
from demo.backend.lru_cache import LRUCache

X_AXES = ("epoch", "step", "time")
"""What every row of metrics says beside its metrics."""
PUBLIC, API = "https://wandb.ai", "https://api.wandb.ai"


@dataclass(frozen=True, eq=False)
class RecordedRun:
    """One run, finished or under way."""

    stored: Run
    config: dict[str, Any]
    """The fields that decide the result, by name."""
    summary: dict[str, Any] | None
    stamp: Hashable
    """Changes when the run records more."""
    group: str = ""
    """The sweep that it is a trial of, or else the group that it was put into."""
    url: str = ""
    """Where it is on W&B, if it is there."""

    @property
    def name(self) -> str:
        """Return the run's folder name, which no other run has."""
        return self.stored.name

    @property
    def dataset(self) -> str:
        """Return what it was trained on."""
        return str(self.config.get("dataset", ""))

    @property
    def model(self) -> str:
        """Return what was trained."""
        return str(self.config.get("model", ""))

    @property
    def label(self) -> str:
        """Return a short name that tells it from its siblings."""
        return f"{self.model} · seed {self.config.get('seed', 0)} · {self.name.rpartition('-')[2]}"

    @property
    def metrics(self) -> dict[str, float]:
        """Return the final numbers; none while it goes on."""
        return _numbers(_part(self.summary or {}, "metrics"))


@dataclass(frozen=True, eq=False)
class FilmFrames:
    """A run's film: maps of the same images after one epoch after the other."""

    epochs: tuple[int, ...]
    heatmaps: Float32[np.ndarray, "frames n h w"]
    logits: Float32[np.ndarray, "frames n k"]
    targets: Int64[np.ndarray, "n"]
    """The class whose logit was explained: the label."""


@dataclass(frozen=True, eq=False)
class EmbeddingPoints:
    """A run's logits of the stored test samples, and where each layout puts them."""

    ids: Int64[np.ndarray, "n"]
    labels: Int64[np.ndarray, "n"]
    logits: Float32[np.ndarray, "n k"]
    layouts: dict[str, Float32[np.ndarray, "n 2"]]

    @property
    def probs(self) -> Float32[np.ndarray, "n k"]:
        """Return the softmax of the logits."""
        return softmax(self.logits)


@dataclass(frozen=True)
class RunList:
    """All runs, oldest first, and what is wrong with those that cannot be read."""

    stamp: Hashable
    runs: tuple[RecordedRun, ...] = ()
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def datasets(self) -> list[str]:
        """Return the datasets that have runs, by name."""
        return sorted({run.dataset for run in self.runs})

    def of(self, dataset: str) -> list[RecordedRun]:
        """Return the runs of one dataset, oldest first."""
        return [run for run in self.runs if run.dataset == dataset]

    def named(self, names: Sequence[str]) -> list[RecordedRun]:
        """Return runs by name, in the order of the names; those that are gone are left out."""
        known = {run.name: run for run in self.runs}
        return [known[name] for name in names if name in known]


class RunHistory:
    """The runs of one store, for all visitors."""

    def __init__(self, root: Path, num_bytes: int = 2**28):
        self._root = root
        self._cache: LRUCache[Any] = LRUCache(num_bytes)
        self._run_list = RunList(stamp=None)
        self._read_lock = threading.Lock()

    def run_list(self) -> RunList:
        """List the runs; they are read again only if one has begun, recorded something or ended."""
        with self._read_lock:
            runs = sorted((str(path), _stamp(path)) for path in self._root.glob("runs/*"))
            stamp = (*runs, *sorted(map(str, self._root.glob("sweeps/*/logs"))))
            if stamp != self._run_list.stamp:
                self._run_list = _read(self._root, stamp)
            return self._run_list

    def rows(self, run: RecordedRun) -> list[dict[str, float]]:
        """Return a run's rows of metrics: what in them is a finite number.

        Raises:
            ValueError: If the file is damaged.
        """

        def make() -> tuple[list[dict[str, float]], int]:
            rows = [row for row in map(_numbers, run.stored.rows()) if all(axis in row for axis in X_AXES)]
            return rows, 600 * len(rows)

        found: list[dict[str, float]] = self._cache.get(("rows", run.name, run.stamp), make)
        return found

    def film(self, run: RecordedRun, reduction: str) -> FilmFrames:
        """Return a run's film, its channels reduced.

        Raises:
            ValueError: If it has none, or a frame is damaged.
        """

        def make() -> tuple[FilmFrames, int]:
            film = _read_film(run, reduction)
            return film, film.heatmaps.nbytes + film.logits.nbytes

        found: FilmFrames = self._cache.get(("film", run.name, run.stamp, reduction), make)
        return found

    def points(self, run: RecordedRun) -> EmbeddingPoints:
        """Return a run's embedded test samples.

        Raises:
            ValueError: If it has none yet, or they are damaged.
        """

        def make() -> tuple[EmbeddingPoints, int]:
            points = _read_points(run)
            return points, 2 * points.logits.nbytes

        found: EmbeddingPoints = self._cache.get(("points", run.name, run.stamp), make)
        return found


def _stamp(folder: Path) -> Hashable:
    files = [folder / name for name in ("config.json", "metrics.jsonl", "summary.json", "wandb.json")]
    return tuple(map(modified, files))


def _read(root: Path, stamp: Hashable) -> RunList:
    found, broken = [], {}
    sweeps = {file.stem: file.parents[1].name for file in root.glob("sweeps/*/logs/*.log")}
    for run in list_runs(root):
        try:
            found.append(_record(run, sweeps))
        except (ValueError, OSError) as error:
            broken[run.name] = str(error)
    return RunList(stamp, tuple(found), broken)


def _record(run: Run, sweeps: Mapping[str, str]) -> RecordedRun:
    """Read a run; a trial's id, under which its sweep keeps what it said, ends the name of its run."""
    content, summary = run.config, run.summary
    config, place = _part(content, "config"), _part(content, "place")
    for name in ("metrics", "separability"):
        _part(summary or {}, name)
    group = sweeps.get(run.name.rpartition("-")[2]) or place.get("sweep") or place.get("group") or ""
    return RecordedRun(run, config, summary, _stamp(run.folder), str(group), _url(run))


def _part(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what a file says under a name; nothing, if it does not have it."""
    found = content.get(name, {})
    if not isinstance(found, dict):
        raise ValueError(f"the run is damaged: {name} must be an object, got {type(found).__name__}")
    return found


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """Leave out what is no number that can be drawn: text, nan, infinity, and what no float holds."""
    kept = {name: value for name, value in content.items() if isinstance(value, (int, float))}
    return {name: value for name, value in kept.items() if -1e300 < value < 1e300}


def _url(run: Run) -> str:
    """Return where a run is on W&B; of one that was pulled its place alone is known."""
    try:
        link = read_link(run.folder)
    except (ValueError, OSError, TypeError):  # a damaged note is no reason not to show the run
        return ""
    if link is None:
        return ""
    site = without_credentials(os.environ.get("WANDB_BASE_URL", "")).rstrip("/") or PUBLIC
    made = "/".join(quote(part, safe="") for part in (link.entity, link.project, "runs", link.id))
    url = link.url or (f"{PUBLIC if site == API else site}/{made}" if link.entity and link.project else "")
    return url if url.startswith(("https://", "http://")) else ""


def _read_film(run: RecordedRun, reduction: str) -> FilmFrames:
    frames = run.stored.frames("film")
    if not frames:
        raise ValueError(f"{run.name} has no film: it was written by a run that kept none, or has not begun")
    stored = [read_frame(path, ("attribution", "logits", "targets")) for path in frames.values()]
    attributions, targets = [one["attribution"] for one in stored], stored[0]["targets"]
    fit = all(one.ndim == 4 for one in attributions)
    _check(fit and all(_are_classes(targets, one["logits"], len(one["attribution"])) for one in stored), run, "film")
    heatmaps = np.stack([to_heatmap(one, reduction) for one in attributions])
    return FilmFrames(tuple(frames), heatmaps, np.stack([one["logits"] for one in stored]), targets)


def _read_points(run: RecordedRun) -> EmbeddingPoints:
    path = run.stored.final_embeddings
    if not path.is_file():
        raise ValueError(f"{run.name} has no test logits yet: they are embedded when a run ends")
    stored = read_frame(path, ("ids", "labels", "logits", *METHODS))
    layouts, num = {name: stored[name] for name in METHODS}, stored["ids"].size
    placed = stored["ids"].ndim == 1 and all(one.shape == (num, 2) for one in layouts.values())
    _check(placed and _are_classes(stored["labels"], stored["logits"], num), run, "embeddings")
    return EmbeddingPoints(stored["ids"], stored["labels"], stored["logits"], layouts)


def _are_classes(labels: np.ndarray, logits: np.ndarray, num: int) -> bool:
    """Tell whether these are classes of so many images, and their logits."""
    if labels.shape != (num,) or logits.ndim != 2 or len(logits) != num or labels.dtype.kind != "i":
        return False
    return bool(((labels >= 0) & (labels < logits.shape[1])).all())


def _check(fit: bool, run: RecordedRun, kind: str) -> None:
    if not fit:
        raise ValueError(f"the {kind} of {run.name} are damaged: arrays that do not fit together; train the run again")
