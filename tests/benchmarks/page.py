"""How long visitors of the demo wait: for the page of a store of 20 models, and for four models' maps of an image."""

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from measuring import Row, in_turns

ROOT = Path(__file__).parents[2]
DATASETS, MODELS = ("digits", "shapes32"), ("resnet18", "vit_mini")
NUM_VERSIONS = 5


def rows() -> Iterator[Row]:
    """Fill a store with the starter models, untrained (that costs the same), five versions each; then ask and wait."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "artifacts"
        _fill(root)
        for what, took in _compared(root).items():
            yield Row(
                f"two datasets × two models, {what}", f"{took:.3f} s", "allowed 0.5 s", f"{took / 0.5:.2f}", "< 0.5 s"
            )
        started = [_started(root) for _ in range(2)]
        for what, found in zip(("to the page", "to the first maps"), zip(*started, strict=True), strict=True):
            took = min(found)
            yield Row(f"demo/app.py, 20 models, {what}", f"{took:.2f} s", "allowed 10 s", f"{took / 10:.2f}", "< 10 s")


def _fill(root: Path) -> None:
    sys.path.append(str(ROOT / "tests" / "support"))
    from small_store import add_model

    from cvx import data
    from cvx.store import Store

    store = Store(root)
    for dataset in DATASETS:
        splits = data.load(dataset, Path(os.environ.get("CVX_DATA", "~/.cache/cvx")).expanduser())
        store.add_samples(splits)
        for model, seed in itertools.product(MODELS, range(NUM_VERSIONS)):
            add_model(store, splits, model, seed)


def _compared(root: Path) -> dict[str, float]:
    """Answer as the page does, models loaded: strips and rows as HTML, for images not seen before and for one."""
    from demo.backend import map_rows
    from demo.backend.service import ModelService
    from demo.components.image_picker import filters, image_picker
    from demo.components.map_grid import map_grid
    from demo.state.selection import Choice, Pick

    service, choice, images = ModelService(root), Choice(datasets=DATASETS, models=MODELS), itertools.count(1)

    def answer(index: int) -> str:
        catalog, picks = service.catalog(), dict.fromkeys(DATASETS, Pick(index=index))
        ask = filters.asker(service, MODELS)
        strips = image_picker.picker([catalog.datasets[name] for name in DATASETS], choice, picks, ask)
        lines = map_rows.make_rows(service, catalog, choice, picks)
        if any(cell.explanation is None for line in lines for cell in line.cells):
            raise RuntimeError("a model did not answer")
        return strips + map_grid.grid(lines, choice)

    asked: dict[str, Callable[[], object]] = {
        "a new image": lambda: answer(next(images)),
        "an image seen before": lambda: answer(0),
    }
    return in_turns(asked, rounds=10)


def _started(root: Path) -> tuple[float, float]:
    """Start the demo as people do, and return when its page is there, and when four models have answered a script."""
    command = [sys.executable, "demo/app.py", f"--artifacts={root}", "--port=0"]
    begun = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        found = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stdout)
        address = next(one[0] for one in found if one)
        with urllib.request.urlopen(address, timeout=60) as answer:
            answer.read()
        page = time.perf_counter() - begun
        for dataset in DATASETS:
            _ask(address, [f"{dataset}-{model}" for model in MODELS], f"{dataset}:0")
        return page, time.perf_counter() - begun
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _ask(address: str, models: list[str], sample: str) -> None:
    """Call /compare without gradio_client, whose import takes a second of its own."""
    rest = [None, "pred", "logit", "gradient", "max", "shared", 1.0, 99.0, 60.0]
    body = json.dumps({"data": [models, sample, *rest]}).encode()
    request = urllib.request.Request(f"{address}/gradio_api/call/compare", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}/gradio_api/call/compare/{event}", timeout=60) as answer:
        if "event: complete" not in answer.read().decode():
            raise RuntimeError("the demo did not answer")
