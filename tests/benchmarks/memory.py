"""A folder of images whose arrays are larger than the memory the process may take: prepared, then trained from."""

import contextlib
import io
import resource
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from measuring import Row
from PIL import Image

from cvx import data, models
from cvx.config import TrainConfig
from cvx.data.augment import Augmentation
from cvx.data.batches import Batches
from cvx.data.dataset_types import Split
from cvx.distributed import Ranks
from cvx.training.step import make_learner

MEGA = 2**20
ALLOWED = 512 * MEGA
"""Private memory that the process may take beyond what it has when it starts the work (RLIMIT_DATA)."""
NUM, SIDE, NUM_CLASSES = 8_000, 224, 20
TINY = (100_000, 64)
"""Images and side of Tiny-ImageNet."""


class Peak:
    """The most private memory that this process has had in RAM since a moment, looked at 50 times a second."""

    def __enter__(self) -> "Peak":
        self.start, self._done = private(), threading.Event()
        self.most = self.start
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, private())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        """Return the bytes above the start."""
        return max(self.most, private()) - self.start


def private(name: str = "RssAnon") -> int:
    """Return what Linux says of this process's private memory: RssAnon in RAM, VmData allowed to be written."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def rows() -> Iterator[Row]:
    """Limit the process, prepare and train from arrays it could not hold; then read Tiny-ImageNet-sized ones."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        tiny = noise_on_disk(root / "tiny.npy", *TINY)
        draw(root / "images", NUM, 256)
        torch.ones(2**20).sum()  # the pool of threads is there before the limit is
        resource.setrlimit(resource.RLIMIT_DATA, (private("VmData") + ALLOWED,) * 2)
        yield from _folder(root)
        yield from _tiny(tiny)


def draw(folder: Path, num: int, side: int) -> None:
    """Write smooth JPEGs into class folders; 64 different ones, under as many names as are asked for."""
    random, contents = np.random.default_rng(0), []
    for _ in range(64):
        coarse = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        content = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(content, "JPEG", quality=85)
        contents.append(content.getvalue())
    for i in range(num):
        file = folder / f"class {i % NUM_CLASSES:02d}" / f"{i:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(contents[i % 64])


def noise_on_disk(file: Path, num: int, side: int) -> Split:
    """Write images of noise and map them."""
    random = np.random.default_rng(0)
    array = np.lib.format.open_memmap(file, "w+", np.uint8, (num, side, side, 3))
    for start in range(0, num, 1000):
        array[start : start + 1000] = random.integers(0, 256, array[start : start + 1000].shape, dtype=np.uint8)
    array.flush()
    del array
    images = np.load(file, mmap_mode="r")
    return Split(images, np.arange(num) % 200, np.arange(num))


def _folder(root: Path) -> Iterator[Row]:
    begun = time.perf_counter()
    with Peak() as peak, contextlib.redirect_stderr(io.StringIO()):
        splits = data.load(f"folder:{root / 'images'}", root / "data", SIDE)
    took = time.perf_counter() - begun
    size = NUM * SIDE**2 * 3
    limit = f"{ALLOWED / MEGA:.0f} MB of private memory allowed"
    what = f"arrays of {NUM:,} images of {SIDE} px"
    yield Row(what, f"{size / MEGA:,.0f} MB", limit, f"{size / ALLOWED:.1f}", "> 1")
    yield Row("preparing them: peak", f"{peak.grown / MEGA:.0f} MB", limit, f"{peak.grown / ALLOWED:.2f}", "0.2")
    yield Row("preparing them", f"{NUM / took:.0f} images/s", "–", "–", "400: JPEG is decoded at 2 ms by a core")
    yield from _training(splits.train, limit)


def _training(train: Split, limit: str) -> Iterator[Row]:
    torch.manual_seed(0)
    given = TrainConfig(dataset="folder:images", model="test_resnet", batch_size=16, optimizer="sgd")
    learner = make_learner(given, models.build(given.model, NUM_CLASSES, SIDE), Ranks(), 100)
    batches = Batches(train, 16, Augmentation(crop=True, flip=True), NUM_CLASSES, seed=0, device="cpu")
    seen = []
    with Peak() as peak:
        for step, (inputs, targets) in enumerate(batches.epoch(0)):
            if step == 40:
                break
            learner.train_step(inputs, targets)
            seen.append(private())
    ratio = f"{peak.grown / ALLOWED:.2f}"
    yield Row("40 training steps of 16: peak", f"{peak.grown / MEGA:.0f} MB", limit, ratio, "0.7")
    grown = max(seen[20:]) - max(seen[:20])
    yield Row("the last 20 of them above the first 20", f"{grown / MEGA:.0f} MB", limit, f"{grown / ALLOWED:.2f}", "0")


def _tiny(split: Split) -> Iterator[Row]:
    """Go through a whole epoch, and compare the most that its second half took with the first."""
    batches = Batches(split, 128, Augmentation(crop=True, flip=True), 200, seed=0, device="cpu")
    seen, begun = [], time.perf_counter()
    for step, _ in enumerate(batches.epoch(0)):
        if step % 20 == 0:
            seen.append(private())
    took = time.perf_counter() - begun
    half = len(seen) // 2
    grown = max(seen[half:]) - max(seen[:half])
    size = split.images.nbytes
    what = f"an epoch of {len(split):,} mapped images of {split.images.shape[1]} px: growth of private memory"
    yield Row(what, f"{grown / MEGA:.0f} MB", f"{size / MEGA:,.0f} MB of arrays", f"{grown / size:.3f}", "0")
    speed = f"{batches.steps_per_epoch * 128 / took:.0f} images/s"
    yield Row("the same: crop and flip", speed, "4 times the pixels of 32 px", "–", "20,000")
