"""How long a person waits: for help, for the first training step, for the demo's page."""

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from measuring import Row

ROOT = Path(__file__).parents[2]


def rows() -> Iterator[Row]:
    """Measure each in fresh processes; the best of some."""
    for what, allowed, measure, times in (
        ("python -m cvx --help", 0.5, _help, 5),
        ("python -m cvx attribute --help", 0.5, lambda: _help("attribute"), 5),
        ("python -m cvx train to the first recorded step", 10, _first_step, 2),
        ("demo/app.py to the page", 10, _empty_page, 2),
    ):
        took = min(measure() for _ in range(times))
        yield Row(what, f"{took:.2f} s", f"allowed {allowed} s", f"{took / allowed:.2f}", f"≤ {allowed} s")


def _help(*command: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "cvx", *command, "--help"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def _first_step() -> float:
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--dataset=digits", "--model=resnet18", "--epochs=2", f"--artifacts={folder}", "--wandb=off"]
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "cvx", "train", *flags],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not any('"train/loss"' in file.read_text() for file in Path(folder).glob("runs/*/metrics.jsonl")):
                if process.poll() is not None:
                    raise RuntimeError("training ended without a recorded step")
                time.sleep(0.02)
            return time.perf_counter() - begun
        finally:
            process.kill()
            process.wait()


def _empty_page() -> float:
    with tempfile.TemporaryDirectory() as folder:
        return page(Path(folder))


def page(artifacts: Path) -> float:
    """Start the demo on a store and return the seconds until its page is there."""
    begun = time.perf_counter()
    command = [sys.executable, "demo/app.py", f"--artifacts={artifacts}", "--port=0"]
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        address = next(found[0] for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        with urllib.request.urlopen(address, timeout=30) as answer:
            answer.read()
        return time.perf_counter() - begun
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
