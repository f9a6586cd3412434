"""The whole training loop, against the bare step of the same model on one batch that is already there."""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import timm.data
import torch
import torch.nn.functional as F
from batches import loader, noise
from measuring import Row, product_peak
from PIL import Image
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch.utils.flop_counter import FlopCounterMode

from cvx import models
from cvx.config import RunOptions, TrainConfig
from cvx.data.batches import Batches
from cvx.data.dataset_types import NUM_FILM, Split
from cvx.distributed import Ranks
from cvx.models.precision import arithmetic
from cvx.models.predict import logits_of
from cvx.progress import Bar
from cvx.training.loop import LOGS_PER_EPOCH, evaluate_and_record, maps_of, run_epochs, save
from cvx.training.session import Session, open_session
from cvx.training.step import Learner, make_learner

TURNS = 4
MODELS = {
    "resnet18": (5, "0.98: a batch is ready in 1 ms"),
    "vit_mini": (20, "0.93: a batch is 2 % of the step, rows more"),
}
"""Steps per turn, of which one is recorded, and what was predicted."""
PEERS = {
    "torchvision, DataLoader, SGD": "3: bfloat16",
    "timm's loader, transforms, bf16": "1.3: batches of PIL images, fused optimizer, small convolutions",
}


class DoneError(Exception):
    """Enough turns were taken."""


class Turns:
    """A progress bar that times the loop between its calls, and a bare loop in turns with it."""

    def __init__(self, bar: Bar, bare: "Bare", steps: int) -> None:
        self._bar, self._bare, self._steps, self._count = bar, bare, steps, 0
        self._begun = 0.0
        self.loop: list[float] = []
        self.bare: list[float] = []

    def step(self) -> None:
        """Count a step."""
        self._bar.step()
        self._count += 1

    def row(self, row: Mapping[str, float]) -> None:
        """End a turn: a row was just recorded."""
        self._bar.row(row)
        if "train/loss" not in row:
            return
        if self._begun:
            self.loop.append((time.perf_counter() - self._begun) / self._count)
        begun = time.perf_counter()
        for _ in range(self._steps):
            self._bare.step()
        if self._begun:
            self.bare.append((time.perf_counter() - begun) / self._steps)
        if len(self.loop) == TURNS:
            raise DoneError
        self._begun, self._count = time.perf_counter(), 0


class Bare:
    """Forward, backward, step; nothing else."""

    def __init__(self, learner: Learner, split_size: int, num_classes: int) -> None:
        self.learner = learner
        self._inputs = torch.rand(split_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        self._targets = F.one_hot(torch.arange(split_size) % num_classes, num_classes).float()

    def step(self) -> None:
        """Take one step on the resident batch."""
        with arithmetic("cpu", self.learner.precision):
            logits = self.learner.classifier(self._inputs)
        loss = F.cross_entropy(logits.float(), self._targets)
        self.learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.learner.optimizer.step()


def rows() -> Iterator[Row]:
    """Measure a large and a small model, and the usual way for both."""
    for name, (steps, predicted) in MODELS.items():
        yield from _model(name, steps, predicted)


def _model(name: str, steps: int, predicted: str) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, _session(name, Path(folder)) as session:
        bare = Bare(_learner(session), session.config.batch_size, session.splits.num_classes)
        split = noise(session.config.batch_size * steps * LOGS_PER_EPOCH)
        session.batches = Batches(
            split, session.config.batch_size, session.batches._augmentation, 10, seed=0, device="cpu"
        )
        turns = session.bar = Turns(session.bar, bare, steps)
        with contextlib.suppress(DoneError), contextlib.redirect_stderr(io.StringIO()):
            run_epochs(session)
        loop, own = session.config.batch_size / min(turns.loop), session.config.batch_size / min(turns.bare)
        yield Row(f"{name}: whole loop", f"{loop:.0f} images/s", f"bare step {own:.0f}", f"{loop / own:.3f}", predicted)
        yield from _distance(name, bare, own)
        for kind, peer in (("torchvision, DataLoader, SGD", _usual), ("timm's loader, transforms, bf16", _timm)):
            other = peer(name, steps)
            against, ratio = f"{kind} {other:.0f}", f"{loop / other:.2f}"
            yield Row(f"{name}: whole loop", f"{loop:.0f} images/s", against, ratio, PEERS[kind])
        yield from _recording(name, session)


@contextlib.contextmanager
def _session(name: str, folder: Path) -> Iterator[Session]:
    config = TrainConfig(dataset="shapes32", model=name, epochs=1, batch_size=128, warmup_epochs=0)
    with open_session(config, RunOptions(artifacts=folder, wandb="off"), Ranks(), []) as session:
        yield session


def _learner(session: Session) -> Learner:
    torch.manual_seed(0)
    classifier = models.build(session.config.model, session.splits.num_classes, 32)
    return make_learner(session.config, classifier, Ranks(), session.batches.steps_per_epoch)


def _distance(name: str, bare: Bare, speed: float) -> Iterator[Row]:
    """Hold the bare step's arithmetic against matrix products in its own precision, and in float32."""
    net, one = bare.learner.classifier, bare._inputs[:4].clone()
    with FlopCounterMode(display=False) as counter:
        net(one).sum().backward()
    bare.learner.optimizer.zero_grad(set_to_none=True)
    done = counter.get_total_flops() / 4 * speed
    for dtype in dict.fromkeys((bare.learner.precision, torch.float32)):
        peak, kind = product_peak(dtype), str(dtype).removeprefix("torch.")
        against, ratio = f"{kind} product {peak / 1e9:.0f}", f"{done / peak:.2f}"
        aim = "0.65" if name == "resnet18" else "0.2"
        yield Row(f"{name}: arithmetic of the bare step", f"{done / 1e9:.0f} GFLOP/s", against, ratio, aim)
    yield _plain(bare)


def _plain(bare: Bare) -> Row:
    """Hold the step against the same one with oneDNN's convolutions and flash attention for bfloat16."""
    bare.step()
    own = min(_seconds(bare.step) for _ in range(3))

    def plain() -> None:
        with torch.autocast("cpu", bare.learner.precision):
            logits = bare.learner.classifier(bare._inputs)
        loss = F.cross_entropy(logits.float(), bare._targets)
        bare.learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        bare.learner.optimizer.step()

    plain()
    other = min(_seconds(plain) for _ in range(3))
    ratio = f"{other / own:.2f}"
    what = "convolutions of small maps and attention as products"
    return Row(f"{bare.learner.config.model}: {what}", f"{own:.2f} s", f"as torch has it {other:.2f} s", ratio, "1.2")


def _usual(name: str, steps: int) -> float:
    """Train the usual way, as torchvision's example does, and return its images per second."""
    torch.manual_seed(0)
    model = models.build(name, 10, 32).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        for inputs, labels in loader(noise(128 * max(2, steps // 2))):
            loss = F.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        times.append((time.perf_counter() - begun) / max(2, steps // 2))
    return 128 / min(times)


class Pictures(torch.utils.data.Dataset):
    """Images as timm's loader takes them."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self.transform: Callable[[Image.Image], torch.Tensor] = _untouched

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self._split.images[i])), int(self._split.labels[i])


def _untouched(image: Image.Image) -> torch.Tensor:
    raise NotImplementedError("timm's loader sets the transform")


def _timm(name: str, steps: int) -> float:
    """Train with the parts that timm's script puts together, with its flags --amp (bfloat16) and --channels-last."""
    torch.manual_seed(0)
    num = max(2, steps // 2)
    batches = timm.data.create_loader(
        Pictures(noise(128 * num)),
        (3, 32, 32),
        128,
        is_training=True,
        use_prefetcher=False,
        color_jitter=None,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        num_workers=0,
        device=torch.device("cpu"),
    )
    model = models.build(name, 10, 32).train().to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    schedule, _ = create_scheduler_v2(optimizer, num_epochs=2, step_on_epochs=False, updates_per_epoch=num)
    times, update = [], 0
    for _ in range(2):
        begun = time.perf_counter()
        for inputs, labels in batches:
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(inputs.contiguous(memory_format=torch.channels_last)), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            update += 1
            schedule.step_update(update, metric=loss.item())
        times.append((time.perf_counter() - begun) / num)
    return 128 / min(times)


def _recording(name: str, session: Session) -> Iterator[Row]:
    """Time everything that is done once an epoch: evaluation, maps, the picture of the logits, the saved state."""
    session.bar = session.bar._bar
    model, val = session.learner.eval_model, session.splits.val
    film = session.splits.samples.head(NUM_FILM)
    with contextlib.redirect_stderr(io.StringIO()):
        whole = _seconds(lambda: (evaluate_and_record(session, 1), save(session)))
    evaluation = _seconds(lambda: logits_of(model, val, autocast_dtype=session.learner.precision))
    maps = _seconds(lambda: maps_of(model, film, torch.device("cpu")))
    for what, took in (
        (f"everything recorded of an epoch, {len(val)} val images evaluated", whole),
        ("of which evaluation", evaluation),
        (f"of which maps of {len(film)} film images", maps),
        ("of which pictures and files", max(0.0, whole - evaluation - maps)),
    ):
        yield Row(f"{name}: {what}", f"{took:.1f} s", "an epoch of 60 s", f"{took / 60:.3f}", "≤ 0.05")


def _seconds(function: Callable[[], object]) -> float:
    """Time a function the second time: what it imports and plans once belongs to no epoch."""
    for _ in range(2):
        begun = time.perf_counter()
        function()
    return time.perf_counter() - begun
