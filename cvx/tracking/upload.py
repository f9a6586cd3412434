"""Send one run's rows, pictures and final numbers to W&B, the same for a run at work and for a finished folder."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from cvx.data.dataset_types import NUM_FILM, NUM_GALLERY
from cvx.metrics import classification
from cvx.metrics.embedding import METHODS
from cvx.store import Store
from cvx.store.npz import read_frame
from cvx.store.runs import RowReader, Run
from cvx.store.store import Samples
from cvx.tracking import pictures
from cvx.tracking.account import client

FILM, TABLE, CONFUSION, PER_CLASS, CALIBRATION, PAGE = (
    "film",
    "embedding/table",
    "test/confusion",
    "test/per_class",
    "test/calibration",
    "report",
)
"""Keys of media, beside those of the rows: the report and the workspace name them too."""
NUM_CONFUSED = 100
"""Classes up to which the confusion matrix is an interactive chart too; a table of W&B's holds 10,000 rows."""


class Upload:
    """Sends rows, pictures and final numbers of one run, each W&B step once and whole.

    What falls on one step is gathered and logged when the next step begins: a W&B step that has arrived lacks nothing,
    so that what is missing after an outage are whole steps at the end. Rows come in the order of the folder, from its
    first one on, whatever has arrived before; its frames are read here.

    Args:
        folder: The run's folder, which already has what is sent.
        run: The wandb run.
        first_step: Steps before it have arrived earlier.
        has_final: The pictures of the end have arrived earlier, too.
        scratch: Where pictures are written; it must outlive the wandb run.
    """

    def __init__(self, folder: Path, run: Any, first_step: int, scratch: Path, has_final: bool = False):
        self.folder = folder
        self.num_sent, self.last_step = 0, first_step - 1
        self._run = run
        self._first = first_step
        self._has_final = has_final
        self._scratch = scratch
        self._store = Store(Run(folder).store_root)
        content = Run(folder).config
        self._dataset, self._fingerprint = str(content["config"]["dataset"]), str(content.get("samples", ""))
        self._started = datetime.fromisoformat(content["created"]).timestamp()
        self._pending: dict[str, Any] = {}
        self._step, self._time, self._best = -1, 0.0, -math.inf
        self._looked_at: int | None = None
        self._samples: Samples | None = None
        define_axes(run)

    def row(self, row: Mapping[str, float | None]) -> None:
        """Take one row of metrics."""
        if (step := int(row["step"] or 0)) != self._step:
            self.flush()
        self._step, self._time = step, float(row["time"] or 0.0)
        if "val/acc1" in row:
            self._looked_at = int(row["epoch"] or 0)
        self._pending |= {
            key: math.nan if value is None else value for key, value in row.items() if key not in ("step", "time")
        }
        if (acc1 := row.get("val/acc1")) is not None and acc1 > self._best:
            self._best = acc1
            self._run.summary["val/acc1"] = acc1

    def finish(self, summary: Mapping[str, Any], page: bytes = b"") -> None:
        """Take the final numbers, and the run's page where there is one; nothing follows."""
        self._take_frames()
        self._pending |= self._final() | self._judged(summary)
        if page:
            self._pending[PAGE] = self._html(page)
        if self._has_final:
            self._pending = {}
        elif self._step < self._first:  # all steps have arrived before: what is final gets one of its own
            self._step = self._first
            self._pending = {key: value for key, value in self._pending.items() if not isinstance(value, int | float)}
        self.flush()
        numbers = {key: value for key, value in summary["metrics"].items() if value is not None and key != "val/acc1"}
        facts = {"best_epoch": summary["best_epoch"], "time/run_s": summary["time_s"]}
        spread = {f"embedding/{key}": value for key, value in summary["separability"].items()}
        self._run.summary.update({**numbers, **facts, **spread})

    def flush(self) -> None:
        """Log what was gathered for the step, unless it has arrived before; what fails is not tried again here."""
        self._take_frames()
        pending, self._pending = self._pending, {}
        if pending and self._step >= self._first:
            row = {**pending, "_timestamp": self._started + self._time}
            self._run.log(row, step=self._step, commit=True)
            self.num_sent, self.last_step = self.num_sent + 1, self._step

    def _take_frames(self) -> None:
        """Draw the frames of the step's epoch: they are written after its row, and before the next step's."""
        epoch, self._looked_at = self._looked_at, None
        if epoch is None or self._step < self._first or (samples := self.samples()) is None:
            return
        film, embeddings = (self.folder / kind / f"{epoch:04d}.npz" for kind in ("film", "embeddings"))
        if film.is_file():
            self._pending[FILM] = self._film(samples, read_frame(film))
        if embeddings.is_file():
            self._pending |= self._scatters(samples, read_frame(embeddings))

    def _final(self) -> dict[str, Any]:
        """Draw what the test images were taken for, with the best weights."""
        path = Run(self.folder).final_embeddings
        if not path.is_file() or (samples := self.samples()) is None:
            return {}
        arrays = read_frame(path)
        drawn = self._scatters(samples, arrays, "final-")
        return drawn | self._table(samples, arrays) | self._calibration(arrays)

    def samples(self) -> Samples | None:
        """Return the samples that the run was trained beside, or None where the store has lost them."""
        if self._samples is None:
            try:
                self._samples = self._store.samples(self._dataset, self._fingerprint)
            except ValueError:
                return None
        return self._samples

    def _image(self, image: np.ndarray, name: str, caption: str | None = None) -> Any:
        return client().Image(str(pictures.write(image, self._scratch, f"{name}-{self._step}")), caption=caption)

    def _html(self, page: bytes) -> Any:
        path = self._scratch / f"{PAGE}.html"
        path.write_bytes(page)
        return client().Html(path, inject=False)

    def _film(self, samples: Samples, arrays: Mapping[str, np.ndarray]) -> list[Any]:
        split, logits, targets = samples.split.head(NUM_FILM), arrays["logits"], arrays["targets"]
        tiles = pictures.film_tiles(split.images, arrays["attribution"])
        captions = pictures.film_captions(split.labels, targets, logits, samples.classes)
        return [
            self._image(tile, f"film-{i}", caption)
            for i, (tile, caption) in enumerate(zip(tiles, captions, strict=True))
        ]

    def _scatters(self, samples: Samples, arrays: Mapping[str, np.ndarray], name: str = "") -> dict[str, Any]:
        caption = f"of the logits of {len(arrays['labels'])} images"
        drawn = {
            method: pictures.scatter(arrays[method], arrays["labels"], samples.classes)
            for method in METHODS
            if method in arrays
        }
        return {
            f"embedding/{method}": self._image(image, f"{name}{method}", f"{method} {caption}")
            for method, image in drawn.items()
        }

    def _table(self, samples: Samples, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Make the table that W&B's 2-D projection reads: one numeric column per logit, and our own projections."""
        split, num = samples.split, min(NUM_GALLERY, len(arrays["ids"]))
        columns = ["id", "image", "label", "prediction", "correct"]
        columns += [f"{method}/{axis}" for method in METHODS for axis in "xy"]
        columns += [f"logit/{name}" for name in samples.classes]
        table = client().Table(columns=columns)
        for i in range(num):
            label, pred = int(arrays["labels"][i]), int(arrays["logits"][i].argmax())
            thumbnail = self._image(split.images[i], f"thumbnail-{i}")
            places = [float(value) for method in METHODS for value in arrays[method][i]]
            named = (samples.classes[label], samples.classes[pred], label == pred)
            table.add_data(int(arrays["ids"][i]), thumbnail, *named, *places, *map(float, arrays["logits"][i]))
        return {TABLE: table}

    def _calibration(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        bins = classification.calibration_bins(arrays["logits"], arrays["labels"])
        columns = ["confidence from", "confidence to", "images", "mean confidence", "accuracy"]
        drawn = self._image(pictures.calibration(bins), "calibration", f"{len(arrays['labels'])} test images")
        table = client().Table(columns=columns, data=[list(row) for row in bins])
        return {CALIBRATION: drawn, f"{CALIBRATION}_table": table}

    def _judged(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Make the charts of what the test split's images were taken for."""
        wandb, counts = client(), np.array(summary["confusion"], dtype=np.int64)
        classes = list(summary["per_class_accuracy"])
        rows = [[name, math.nan if value is None else value] for name, value in summary["per_class_accuracy"].items()]
        table = wandb.Table(columns=["class", "accuracy"], data=rows)
        bar = wandb.plot.bar(table, "class", "accuracy", title="test accuracy per class")
        drawn = self._image(
            pictures.confusion(counts), "confusion", "rows: label, columns: prediction, shares of the row"
        )
        charts = {PER_CLASS: bar, CONFUSION: drawn}
        if len(classes) <= NUM_CONFUSED:
            labels, preds = (np.repeat(index.ravel(), counts.ravel()).tolist() for index in np.indices(counts.shape))
            chart = wandb.plot.confusion_matrix(y_true=labels, preds=preds, class_names=classes, title="test confusion")
            charts[f"{CONFUSION}_chart"] = chart
        return charts


def define_axes(run: Any) -> None:
    """Tell W&B the axes: validation and the maps' numbers over epochs, all else over steps.

    The summary's `val/acc1` is the best one as a plain number: W&B's own `summary="max"` would make it `{"max": …}`,
    which sweeps that optimize `val/acc1` cannot read.
    """
    run.define_metric("epoch")
    run.define_metric("val/*", step_metric="epoch")
    run.define_metric("maps/*", step_metric="epoch")
    run.define_metric("val/acc1", step_metric="epoch", summary="none")


def replay(upload: Upload, more: Callable[[], bool] = lambda: False) -> None:
    """Hand over what a run's folder holds, from its first row on, and what still comes.

    Args:
        more: Waits until the run has recorded something new, and tells whether it may record more after that.
    """
    reader, going = RowReader(upload.folder), True
    while going:
        going = more()
        for row in reader.read(final=not going):
            upload.row(row)


def draw_all(folder: Path, scratch: Path, page: bytes = b"") -> None:
    """Draw every picture of a run into a folder, and send nothing."""
    upload = Upload(folder, _Nowhere(), 0, scratch)
    replay(upload)
    if (summary := Run(folder).summary) is not None:
        upload.finish(summary, page)
    upload.flush()


class _Nowhere:
    """Stands where a wandb run would."""

    def __init__(self) -> None:
        self.summary: dict[str, Any] = {}

    def define_metric(self, *names: str, **options: Any) -> None:
        pass

    def log(self, row: Mapping[str, Any], step: int, commit: bool) -> None:
        pass
