"""How time grows with images, classes, points, rows, models and runs, and the exponent of a power law through the times."""

import contextlib
import io
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from batches import KINDS, noise
from measuring import Row
from startup import page

from cvx import comparison, models
from cvx.attribution import attribute
from cvx.data.batches import Batches
from cvx.data.cache import materialize
from cvx.data.dataset_types import Info, Part, Source, Splits
from cvx.data.make_splits import stratified_order
from cvx.metrics import embedding
from cvx.models.predict import logits_of
from cvx.store import ModelEntry, Store, runs
from cvx.store.checkpoint import Card
from cvx.store.runs import RunWriter


def rows() -> Iterator[Row]:
    """Measure each at several sizes, three times what is quick."""
    yield from _images()
    yield from _classes()
    yield from _points()
    yield from _agreements()
    yield from _records()
    yield from _store()


def _row(what: str, sizes: Sequence[int], seconds: Sequence[float], predicted: str) -> Row:
    """Fit a line through the logarithms; its slope is the exponent."""
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    times = ", ".join(f"{value:.3g}" for value in seconds)
    named = ", ".join(f"{size:,}" for size in sizes)
    return Row(f"{what}: {named}", f"{times} s", "exponent of growth", f"{slope:.2f}", predicted)


def _best(function: Callable[[], object], times: int = 3) -> float:
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        function()
        took.append(time.perf_counter() - begun)
    return min(took)


def _images() -> Iterator[Row]:
    torch.manual_seed(0)
    model, sizes = models.build("resnet10t", 10, 32).eval(), (250, 500, 1000)
    split = noise(sizes[-1])
    inputs = torch.from_numpy(split.images).permute(0, 3, 1, 2).float() / 255
    attribute(model, inputs[:64])
    yield _row("maps, images", sizes, [_best(lambda n=n: attribute(model, inputs[:n]), 2) for n in sizes], "1")
    yield _row("evaluation, images", sizes, [_best(lambda n=n: logits_of(model, split[:n]), 2) for n in sizes], "1")
    sizes = (3_200, 12_800, 51_200)
    split = noise(sizes[-1])
    made = [Batches(split[:n], 128, KINDS["everything"], 10, seed=0, device="cpu") for n in sizes]
    yield _row("augmented batches, images", sizes, [_best(lambda b=b: _through(b)) for b in made], "1")
    yield _row("preparing arrays, images", sizes, [_prepare(split.images[:n]) for n in sizes], "1")


def _through(batches: Batches) -> None:
    for _ in batches.epoch(0):
        pass


def _prepare(images: np.ndarray) -> float:
    part = Part(list(images), np.arange(len(images)) % 10)
    source = Source({"train": part}, tuple("abcdefghij"), "f00d", 32, Info("", "", "", flip=True))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        return _best(lambda: materialize(source, Path(folder), "noise", 32), 1)


def _classes() -> Iterator[Row]:
    sizes = (10, 100, 1000)
    images = torch.rand(4, 3, 32, 32)
    seconds = []
    for num in sizes:
        torch.manual_seed(0)
        model = models.build("resnet10t", num, 32).eval()
        seconds.append(_best(lambda model=model: attribute(model, images)))
    yield _row("maps of 4 images, classes", sizes, seconds, "0: one backward pass, whatever the classes")
    labels = [np.random.default_rng(0).integers(0, num, 100_000) for num in sizes]
    yield _row(
        "order of 100,000 images, classes", sizes, [_best(lambda x=x: stratified_order(x), 1) for x in labels], "0"
    )


def _points() -> Iterator[Row]:
    random = np.random.default_rng(0)
    sizes = (1_000, 2_500, 5_000, 10_000)
    labels = np.arange(sizes[-1]) % 10
    logits = (2 * np.eye(10)[labels] + random.standard_normal((sizes[-1], 10))).astype(np.float32)
    predicted = {"pca": "1", "tsne": "1 to 1.2: a tree", "umap": "1: exact neighbors are quick at 10,000"}
    for method in embedding.METHODS:
        embedding.project(logits[:100], method)  # imports, and compiles
    for method in embedding.METHODS:
        seconds = [_best(lambda n=n, m=method: embedding.project(logits[:n], m), 1) for n in sizes]
        yield _row(f"layout by {method}, points", sizes, seconds, predicted[method])
    layout = embedding.project(logits, "pca")
    seconds = [_best(lambda n=n: embedding.separability(logits[:n], layout[:n], labels[:n]), 1) for n in sizes]
    yield _row("trust numbers of a layout, points", sizes, seconds, "2: every pair of points, in chunks")


def _agreements() -> Iterator[Row]:
    """Compare models whose numbers are not kept yet, and again when they are."""
    part, letters, info = noise(1000), tuple("abcdefghij"), Info("", "", "", flip=True)
    with tempfile.TemporaryDirectory() as name:
        store, references = Store(Path(name)), []
        store.add_samples(Splits("noise", part, part, part, letters, (0.5,) * 3, (0.25,) * 3, "f00d", info))
        for seed in range(16):
            torch.manual_seed(seed)
            references.append(_add(store, "net", f"run-{seed}").reference)

        def first(num_models: int, num_images: int) -> float:
            shutil.rmtree(store.root / "measures", ignore_errors=True)
            return compare(num_models, num_images)

        def compare(num_models: int, num_images: int) -> float:
            options = comparison.Options(num=num_images)
            return _best(lambda: comparison.agreement(store, references[:num_models], options), 1)

        yield _row("agreement of 2 models, images", sizes := (250, 500, 1000), [first(2, n) for n in sizes], "1")
        pairs = "2: every pair of models"
        yield _row("agreement over 100 images, models", sizes := (4, 8, 16), [first(n, 100) for n in sizes], pairs)
        yield _row("the same, kept from before, models", sizes, [compare(n, 100) for n in sizes], pairs)


def _records() -> Iterator[Row]:
    sizes = (100, 1_000, 10_000)
    written, read = [], []
    for num in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "runs" / "run"
            RunWriter.create(folder, {"config": {}})
            writer = RunWriter.reopen(folder, -1, 0.0)
            begun = time.perf_counter()
            for step in range(num):
                writer.log(step, step / 100, {"train/loss": 1 / (1 + step), "lr": 0.1, "time/images_per_s": 1e3})
            written.append(time.perf_counter() - begun)
            read.append(_best(lambda folder=folder: runs.read_rows(folder)))
    yield _row("recording, rows", sizes, written, "1")
    yield _row("reading a run's curves, rows", sizes, read, "1")


def _store() -> Iterator[Row]:
    """List stores of many small models and as many runs, and serve the demo from the first two."""
    sizes, listed, ran, resolved, shown = (10, 100, 1000), [], [], [], []
    for num in sizes:
        with tempfile.TemporaryDirectory() as name:
            store = _stored(Path(name), num)
            listed.append(_best(store.models))
            resolved.append(_best(lambda store=store: store.resolve("noise-net000000")))
            ran.append(_best(lambda store=store: [run.summary for run in runs.list_runs(store.root)]))
            shown.append(page(store.root))
    yield _row("listing models, models", sizes, listed, "1")
    yield _row("finding one model, models", sizes, resolved, "0")
    yield _row("listing runs, runs", sizes, ran, "1")
    yield _row("demo/app.py to the page, models and runs", sizes, shown, "0.1: imports are nearly all")


def _stored(root: Path, num: int) -> Store:
    """Copy one small model and run under as many names."""
    torch.manual_seed(0)
    store = Store(root)
    entry = _add(store, "net000000", "")
    run = root / "runs" / "2026-01-01-000000"
    RunWriter.create(run, {"config": {"dataset": "noise", "model": "net"}, "key": "0" * 12})
    writer = RunWriter.reopen(run, -1, 0.0)
    writer.log(1, 1.0, {"val/acc1": 0.5, "train/loss": 1.0})
    writer.finish({"run": run.name, "key": "0" * 12, "metrics": {"val/acc1": 0.5}, "time_s": 1.0})
    for i in range(1, num):
        shutil.copytree(entry.folder.parent, entry.folder.parent.with_name(f"noise-net{i:06d}"))
        shutil.copytree(run, run.with_name(f"2026-01-01-{i:06d}"))
    return store


def _add(store: Store, name: str, run: str) -> ModelEntry:
    """Store an untrained small ViT for images of noise."""
    net = models.build("test_vit", 10, 32).eval()
    about = {"dataset": "noise", "model": name, "build": net.build_args, "classes": tuple("abcdefghij"), "run": run}
    shape = {"image_size": 32, "in_chans": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3, "fingerprint": "f00d"}
    return store.add_model(net, Card(name=f"noise-{name}", samples="f00d", **about, **shape))
