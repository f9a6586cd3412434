"""Report sections on predictions: confusion and calibration."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from cvx.metrics.classification import CalibrationBin, calibration_bins
from cvx.plotting import colors
from cvx.plotting.colors import data_uri
from cvx.plotting.labels import percent
from cvx.report import charts
from cvx.report.blocks import Block, Figure, Figures, Heading, Matrices, Matrix, Text
from cvx.report.snapshot import DatasetResults, RunRecord, StoreSnapshot, placeless
from cvx.store.npz import read_frame

MAX_CELLS = 20
"""Classes up to which a confusion matrix shows its numbers."""


def confusion(study: StoreSnapshot) -> list[Block]:
    """Show each model's confusion on the test split, of the run that its stored best version came from."""
    blocks: list[Block] = []
    for part in study.parts:
        found = [(name, past) for name, past in part.judged() if past.summary and past.summary.get("confusion")]
        if found:
            blocks.append(Heading(part.dataset))
            blocks += _confusions(found)
    return blocks or [Text("No run in this store is done, so nothing was counted on test images.", "note")]


def _confusions(found: Sequence[tuple[str, RunRecord]]) -> list[Block]:
    matrices, figures = [], []
    for name, past in found:
        summary = past.summary or {}
        counts, classes = np.array(summary["confusion"], np.int64), tuple(summary["per_class_accuracy"])
        title, note = f"{name}, seed {past.seed}", _most_confused(counts, classes)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        if len(classes) <= MAX_CELLS:
            cells = tuple(
                tuple((str(count) if count else "", float(share)) for count, share in zip(*pair, strict=True))
                for pair in zip(counts, shares, strict=True)
            )
            matrices.append(Matrix(title, "true \\ predicted", classes, classes, cells, note))
        else:
            figures.append(Figure(title, note=note, uri=data_uri(colors.colorize(shares.astype(np.float32)))))
    return [*([Matrices(tuple(matrices))] if matrices else []), *([Figures(tuple(figures))] if figures else [])]


def _most_confused(counts: Int64[np.ndarray, "k k"], classes: Sequence[str]) -> str:
    off = counts - np.diag(np.diag(counts))
    right = f"{percent(float(np.trace(counts) / max(1, counts.sum())))} of {counts.sum()} right."
    order = np.argsort(-off, axis=None, kind="stable")[:3]
    pairs = [divmod(int(at), len(classes)) for at in order if off.flat[at]]
    told = [f"{classes[i]} taken for {classes[j]} ({off[i, j]}×)" for i, j in pairs]
    return f"{right} Most often: {'; '.join(told)}." if told else right


def calibration(study: StoreSnapshot) -> list[Block]:
    """Draw accuracy over confidence on the test images, of the same runs as the confusion."""
    blocks: list[Block] = []
    for part in study.parts:
        own = _calibrations(study, part)
        if any(isinstance(block, Figures) for block in own):
            blocks.append(Heading(part.dataset))
        blocks += own
    return blocks or [Text("No finished run of this store has logits of test images.", "note")]


def _calibrations(study: StoreSnapshot, part: DatasetResults) -> list[Block]:
    figures: list[Figure] = []
    problems: list[Block] = []
    for name, past in part.judged():
        path = past.run.final_embeddings
        if not path.is_file():
            continue
        try:
            arrays = read_frame(path, ("logits", "labels"))
            bins = calibration_bins(arrays["logits"], arrays["labels"])
        except ValueError as error:
            told = placeless(f"the logits of {past.run.name} cannot be read: {error}", study.store)
            problems.append(Text(told, "problem"))
            continue
        drawn = charts.calibration(bins, f"calibration-{part.dataset}-{name}")
        figures.append(Figure(f"{name}, seed {past.seed}", drawn, _how_sure(bins, past.number("test/ece"))))
    return [*([Figures(tuple(figures))] if figures else []), *problems]


def _how_sure(bins: Sequence[CalibrationBin], ece: float) -> str:
    num = sum(count for _, _, count, _, _ in bins)
    confidence = sum(count * sure for _, _, count, sure, _ in bins) / max(1, num)
    right = sum(count * share for _, _, count, _, share in bins) / max(1, num)
    told = f"{num} test images: on the average {percent(confidence)} sure and {percent(right)} right."
    return told if ece != ece else f"{told} ECE over the whole test split {ece:.3f}."
