"""Minutes until Fashion-MNIST is learned: our fast preset against the same model trained the usual way."""

import contextlib
import datetime
import io
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measuring import Row, machine
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from cvx import config, data, models
from cvx.config import RunOptions, TrainConfig
from cvx.data.dataset_types import Split, Splits
from cvx.distributed import Ranks
from cvx.models.predict import logits_of
from cvx.training import loop
from cvx.training.session import Session, open_session

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "configs" / "fashion_mnist_fast.yaml"
RESULTS = Path(__file__).with_suffix(".jsonl")
THRESHOLDS = (0.90, 0.92, 0.93)
SEEDS = (0, 1, 2)
USUAL_EPOCHS = 12
USUAL = (
    "RandomCrop(padding=4), RandomHorizontalFlip, DataLoader, batch 128, float32, "
    f"SGD 0.1 momentum 0.9 weight decay 5e-4, cosine over {USUAL_EPOCHS} epochs"
)

Curve = list[dict[str, float]]
"""One point for each look at the model: epoch, seconds and CPU seconds so far, accuracy on val and test."""


class Clock:
    """Time that can be stopped: what training costs, without the study's own looks at the test split."""

    def __init__(self) -> None:
        self._begun, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Return the seconds so far, on the wall and of all threads."""
        took = {"seconds": time.perf_counter() - self._begun, "cpu_s": time.process_time() - self._cpu}
        return {name: round(value, 2) for name, value in took.items()}

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Do not count what the block takes."""
        begun, cpu = time.perf_counter(), time.process_time()
        yield
        self._begun += time.perf_counter() - begun
        self._cpu += time.process_time() - cpu


class Watch:
    """A progress bar that tests the model whenever training has looked at val."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session, self._bar, self._clock = session, session.bar, clock
        self.curve: Curve = []

    def step(self) -> None:
        """Pass a step on."""
        self._bar.step()

    def row(self, row: Mapping[str, float]) -> None:
        """Pass a row on, and test if it is a look at val."""
        self._bar.row(row)
        if "val/acc1" in row:
            model, test = self._session.learner.eval_model, self._session.splits.test
            self.curve.append(_point(row["epoch"], self._clock, row["val/acc1"], model, test))


def _point(epoch: float, clock: Clock, val: float, model: torch.nn.Module, test: Split) -> dict[str, float]:
    read = clock.read()
    with clock.stopped():
        tested = accuracy(model, test)
    return {"epoch": epoch, **read, "val": round(val, 4), "test": round(tested, 4)}


def accuracy(model: torch.nn.Module, split: Split) -> float:
    """Return the share of images that a model recognizes."""
    return float((logits_of(model, split).argmax(1) == split.labels).mean())


def ours(seed: int) -> Curve:
    """Train by the preset, and test at every look at val."""
    given, _ = config.parse([f"--config={PRESET}", f"--seed={seed}"])
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        clock = Clock()
        with open_session(given, RunOptions(artifacts=Path(folder), wandb="off"), Ranks(), []) as session:
            watch = session.bar = Watch(session, clock)
            loop.run_epochs(session)
            return watch.curve


class Pictures(Dataset):
    """A split as torchvision has it: one PIL image at a time, through transforms."""

    def __init__(self, split: Split) -> None:
        self._split = split
        crop = v2.RandomCrop(split.images.shape[1], padding=4)
        to_tensor = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
        self._transform = v2.Compose([crop, v2.RandomHorizontalFlip(), to_tensor])

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = Image.fromarray(self._split.images[index, :, :, 0])
        return self._transform(image), int(self._split.labels[index])


def usual(seed: int) -> Curve:
    """Train as torchvision's references do: transforms, DataLoader, float32, SGD 0.1, cosine by epoch."""
    given, _ = config.parse([f"--config={PRESET}"])
    clock = Clock()
    splits = data.load(given.dataset, config.default_data(), given.image_size)
    torch.manual_seed(seed)
    model = _model(given, splits)
    loader = DataLoader(Pictures(splits.train), 128, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, USUAL_EPOCHS)
    curve = []
    for epoch in range(1, USUAL_EPOCHS + 1):
        model.train()
        for inputs, labels in loader:
            loss = F.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        curve.append(_point(epoch, clock, accuracy(model, splits.val), model, splits.test))
    return curve


def _model(given: TrainConfig, splits: Splits) -> models.Classifier:
    shape = (splits.num_classes, splits.image_size, splits.in_chans)
    return models.build(given.model, *shape, mean=splits.mean, std=splits.std, stem=given.stem)


def rows() -> Iterator[Row]:
    """Train both ways with every seed, and say when each threshold was reached.

    Curves are kept in accuracy.jsonl as they come; one that is there already, of the same recipe and machine, is not
    drawn again.
    """
    given, _ = config.parse([f"--config={PRESET}"])
    recipes = {"ours": (ours, given.key), "usual": (usual, f"{given.model}, {given.image_size} px, {USUAL}")}
    kept = _read()
    _prepare(given)
    for seed, (name, (train, recipe)) in itertools.product(SEEDS, recipes.items()):
        about = {"way": name, "seed": seed, "recipe": recipe, "machine": machine()}
        if not any(about.items() <= one.items() for one in kept):
            kept = [one for one in kept if (one["way"], one["seed"]) != (name, seed)]
            kept.append({**about, "date": datetime.date.today().isoformat(), "curve": train(seed)})
            print(f"seed {seed}, {name}: {kept[-1]['curve'][-1]}", file=sys.stderr, flush=True)
            _write(kept)
    curves = {name: [one["curve"] for one in kept if one["way"] == name] for name in recipes}
    for threshold in THRESHOLDS:
        for split in ("test", "val"):
            yield _row(curves, split, threshold)
    for split in ("test", "val"):
        ends = {name: [curve[-1][split] for curve in some] for name, some in curves.items()}
        yield _ends(ends, split)


def _prepare(given: TrainConfig) -> None:
    """Write the arrays and import what a run imports, so that the first run is timed as the later ones are."""
    splits = data.load(given.dataset, config.default_data(), given.image_size)
    accuracy(_model(given, splits), splits.val.head(1))


def _read() -> list[dict[str, Any]]:
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    return [json.loads(line) for line in lines[1:]]


def _write(kept: list[dict[str, Any]]) -> None:
    about = {
        "command": "make bench TOPIC=accuracy",
        "preset": PRESET.relative_to(ROOT).as_posix(),
        "clock": "from the start of a run, arrays already on disk, to the end of each evaluation on val; tests do not count",
    }
    ordered = sorted(kept, key=lambda one: (one["seed"], one["way"]))
    RESULTS.write_text("".join(json.dumps(line) + "\n" for line in [about, *ordered]), encoding="utf-8")


def reached(curve: Curve, split: str, threshold: float, unit: str = "seconds") -> float | None:
    """Return the time at the first look that found this accuracy, or None."""
    return next((point[unit] for point in curve if point[split] >= threshold), None)


def _row(curves: dict[str, list[Curve]], split: str, threshold: float) -> Row:
    times = {name: [reached(curve, split, threshold) for curve in some] for name, some in curves.items()}
    whole = [curve[-1]["seconds"] for curve in curves["usual"]]
    return Row(
        f"minutes to {threshold:.2f} on {split}, mean of {len(times['ours'])} seeds",
        _minutes(times["ours"]),
        f"torchvision, DataLoader, SGD {_minutes(times['usual'])}",
        _ratio(times["ours"], times["usual"], whole),
        "0.33",
    )


def _ratio(own: list[float | None], other: list[float | None], whole: list[float]) -> str:
    """Divide the mean times; who never got there took longer than its whole training."""
    if None in own:
        return "–"
    sign = "< " if None in other else ""
    least = [last if one is None else one for one, last in zip(other, whole, strict=True)]
    return f"{sign}{statistics.mean(one for one in own if one is not None) / statistics.mean(least):.2f}"


def _minutes(times: list[float | None]) -> str:
    known = [value / 60 for value in times if value is not None]
    if not known:
        return "not reached"
    said = f"{statistics.mean(known):.1f} min ({min(known):.1f}–{max(known):.1f})"
    return said if len(known) == len(times) else f"{said}, by {len(known)} of {len(times)} seeds"


def _ends(ends: dict[str, list[float]], split: str) -> Row:
    ours_, usual_ = (f"{statistics.mean(some):.4f} ({min(some):.4f}–{max(some):.4f})" for some in ends.values())
    difference = statistics.mean(ends["ours"]) - statistics.mean(ends["usual"])
    return Row(f"{split} accuracy at the end", ours_, f"the usual way {usual_}", f"{difference:+.4f}", "+0.000")
