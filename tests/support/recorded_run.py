"""A small run, recorded as training records one, without the training."""

import dataclasses

import numpy as np
import torch
from small_store import make_splits

from cvx import models
from cvx.metrics.embedding import METHODS
from cvx.store import Store
from cvx.store.checkpoint import describe
from cvx.store.runs import RunWriter

CREATED = "2026-01-02T03:04:05+00:00"
MODEL = "test_resnet"
"""timm's smallest."""
EPOCHS = 2
LOGS = 4
"""Rows an epoch, the one with the validation not counted."""


def record(
    root,
    name="run-a",
    acc1=0.5,
    sinks=(),
    after=lambda step: None,
    last=True,
    stop=0,
    tags=("quick",),
    begin=-1,
    source="",
):
    """Record a run of the dataset `tiles` and store its models; return its folder.

    Args:
        after: Called with each step once it is recorded.
        last: Store the last weights too.
        stop: Leave off after this step, as an interrupted run does.
        begin: Continue the run that was recorded up to this step.
        source: Digest of the dataset's content.
    """
    store, splits = Store(root), dataclasses.replace(make_splits("tiles", 40, 16, 3, True), source=source)
    store.add_samples(splits)
    folder = store.root / "runs" / name
    config = {"dataset": "tiles", "model": MODEL, "lr": 0.1, "epochs": EPOCHS}
    place = {"tags": list(tags), "group": "few", "notes": "why not"}
    facts = {"config": config, "key": "k" * 12, "place": place, "created": CREATED, "git_commit": "a" * 40}
    if begin < 0:
        RunWriter.create(folder, facts)
    writer = RunWriter.reopen(folder, begin, 0.0, sinks)
    dice, film, points = np.random.default_rng(0), splits.test.head(32), splits.test
    for epoch in range(EPOCHS + 1):
        for i in range(LOGS if epoch else 0):
            step = (epoch - 1) * LOGS + i + 1
            if step <= begin:
                continue
            writer.log(
                step, step / LOGS, {"train/loss": 1 / step, "train/grad_norm": float("nan") if step == 2 else 1.0}
            )
            if step == stop:
                return folder
            if i < LOGS - 1:
                after(step)
        logits = dice.normal(size=(40, 4)).astype(np.float32)
        maps = dice.normal(size=(32, 3, 16, 16)).astype(np.float32)
        flat = logits[:, :2].copy()
        arrays = {"ids": points.ids, "labels": points.labels, "logits": logits}
        if epoch * LOGS <= begin:
            continue
        writer.log(epoch * LOGS, epoch, {"val/loss": 1.0, "val/acc1": acc1 * (1 - abs(epoch - 1) / 4)})
        writer.film(epoch, film.labels, logits[:32], maps)
        writer.embeddings(f"{epoch:04d}", epoch, **arrays, pca=flat)
        after(epoch * LOGS)
    writer.embeddings("test", EPOCHS, **arrays, **dict.fromkeys(METHODS, flat))
    writer.finish(summarize(store, splits, name, acc1, last))
    return folder


def summarize(store, splits, name, acc1, last):
    """Store the models and make the summary that training writes."""
    stored = {"best": _store(store, splits, name, "best", acc1)}
    if last:
        stored["last"] = _store(store, splits, name, "last", 0.1)
    counts = np.eye(4, dtype=int) * 9 + 1
    return {
        "run": name,
        "key": "k" * 12,
        **stored,
        "epochs": EPOCHS,
        "best_epoch": 1,
        "metrics": {"val/acc1": acc1, "test/acc1": 0.75, "test/ece": 0.1},
        "per_class_accuracy": dict.fromkeys(splits.classes, 0.75),
        "confusion": counts.tolist(),
        "separability": {"pca/knn": 0.5},
        "time_s": 12.5,
    }


def _store(store, splits, run, role, acc1):
    torch.manual_seed(sum(map(ord, run + role)))
    net = models.build(MODEL, 4, 16, 3, mean=splits.mean, std=splits.std)
    facts = {"name": f"tiles-{MODEL}", "dataset": "tiles", "model": MODEL, "run": run, "role": role}
    return store.add_model(net.eval(), describe(net, splits, metrics={"val/acc1": acc1}, **facts)).reference
