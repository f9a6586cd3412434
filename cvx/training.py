"""The loop: data and a model in, a stored model and a recorded run out."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from torch import Tensor

from cvx import data, embedding, metrics, models, records
from cvx.attribution import attribute
from cvx.checkpoint import Card, write_tensors
from cvx.config import Place, TrainConfig
from cvx.data.batches import Augmentation, Batches
from cvx.data.splits import NUM_FILM, NUM_GALLERY, Split, Splits
from cvx.distributed import Ranks, ranks
from cvx.evaluation import logits_of
from cvx.learner import Learner, make_learner
from cvx.progress import Bar, training_bar
from cvx.records import RunWriter, Sink
from cvx.resume import FILE, load_state, save_state
from cvx.store import Store, collection

LOGS_PER_EPOCH = 20


class InterruptedTraining(Exception):  # noqa: N818 - like KeyboardInterrupt, no error
    """Training was asked to stop; its state is saved."""

    def __init__(self, run: str, step: int, signum: int):
        super().__init__(f"stopped after step {step}; continue with: python -m cvx train --resume={run}")
        self.run, self.step, self.signum = run, step, signum


class DivergedError(ValueError):
    """The loss is no longer a number."""


@dataclasses.dataclass
class Session:
    """One run at work: what it reads, what it changes, where it writes."""

    config: TrainConfig
    place: Place
    here: Ranks
    splits: Splits
    batches: Batches
    learner: Learner
    store: Store
    writer: RunWriter
    bar: Bar
    best_epoch: int = -1
    best_acc1: float = -1.0
    stop_signal: int = 0

    @property
    def run(self) -> str:
        """Return the run's name."""
        return self.writer.folder.name

    @property
    def state(self) -> Path:
        """Return the folder of what a resume needs."""
        return self.writer.folder / "state"

    def epoch_now(self) -> float:
        """Return the passes done, fractions included."""
        return self.learner.step / self.batches.steps_per_epoch


def train(config: TrainConfig, place: Place, sinks: Sequence[Sink] = ()) -> dict[str, Any]:
    """Train one model from data to test; return the run's summary (empty on every rank but the first).

    Raises:
        ValueError: If config, data and model do not fit together.
        DivergedError: If the loss is not finite; the last good state is kept.
        InterruptedTraining: If SIGINT or SIGTERM asked for a stop; the state is saved.
    """
    with ranks(place.device) as here, open_session(config, place, here, sinks) as session:
        with stop_on_signals(session):
            run_epochs(session)
        return finish(session) if here.is_main else {}


def run_epochs(session: Session) -> None:
    """Run every epoch still to do; look at the model after each, and save the state."""
    learner, per_epoch = session.learner, session.batches.steps_per_epoch
    log_every = max(1, per_epoch // LOGS_PER_EPOCH)
    if learner.step == 0:
        look(session, epoch=0)
    while learner.step < session.config.epochs * per_epoch:
        epoch, window, begun = learner.step // per_epoch, [], time.perf_counter()
        for inputs, targets in session.batches.epoch(epoch, start=learner.step % per_epoch):
            window.append(learner.train_step(inputs, targets))
            session.bar.step()
            if learner.step % per_epoch % log_every == 0:
                record(session, window, time.perf_counter() - begun)
                window, begun = [], time.perf_counter()
                if learner.step % per_epoch:
                    stop_if_asked(session)
        look(session, epoch + 1)
        save(session)
        stop_if_asked(session)


def record(session: Session, window: list[tuple[Tensor, Tensor]], seconds: float) -> None:
    """Record the steps since the last row; a loss that is not finite ends the run."""
    learner, here = session.learner, session.here
    losses, hits = (here.mean(torch.stack(values)) for values in zip(*window, strict=True))
    if not bool(torch.isfinite(losses).all()):
        bad = learner.step - len(window) + 1 + int((~torch.isfinite(losses)).nonzero()[0])
        raise DivergedError(_diverged(session, bad))
    if here.is_main:
        row = {
            "train/loss": float(losses.mean()),
            "train/acc1": float(hits.mean()),
            "train/grad_norm": learner.grad_norm(),
            "lr": learner.optimizer.param_groups[0]["lr"],
            "time/images_per_s": len(window) * session.config.batch_size / seconds,
        }
        session.bar.row(session.writer.log(learner.step, session.epoch_now(), row))


def _diverged(session: Session, step: int) -> str:
    config = session.config
    return (
        f"the loss is not finite at step {step} (epoch {step / session.batches.steps_per_epoch:.2f}) of run"
        f" {session.run}; the state before this epoch is kept. Try a lower lr (got {config.lr:g}),"
        f" longer warmup_epochs (got {config.warmup_epochs:g}) or max_grad_norm=1"
    )


def look(session: Session, epoch: int) -> None:
    """Evaluate on val; keep the best weights; record maps of the film samples and a picture of the logits."""
    model, writer, here = session.learner.judged, session.writer, session.here
    logits = logits_of(model, session.splits.val, device=here.device, rank=here.rank, world=here.world)
    numbers = metrics.summarize(logits, session.splits.val.labels)
    if epoch and numbers["acc1"] > session.best_acc1:
        session.best_epoch, session.best_acc1 = epoch, numbers["acc1"]
        if here.is_main:
            write_tensors(session.state / "best.safetensors", model.state_dict())
    if not here.is_main:
        return
    row = {f"val/{name}": value for name, value in numbers.items()}
    session.bar.row(writer.log(session.learner.step, epoch, row))
    if epoch in records.frame_epochs(session.config.epochs):
        film = session.splits.samples.head(NUM_FILM)
        writer.film(epoch, film.labels, *maps_of(model, film, here.device))
        points = session.splits.val.head(NUM_GALLERY)
        shown = logits[: len(points)]
        arrays = {"ids": points.ids, "labels": points.labels, "logits": shown}
        writer.embeddings(f"{epoch:04d}", epoch, **arrays, pca=embedding.project(shown, "pca"))


def maps_of(model: models.Classifier, film: Split, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of a few images and the gradient maps of their labels."""
    inputs = torch.tensor(film.images).permute(0, 3, 1, 2).to(device, torch.float32) / 255
    logits, attribution = attribute(model, inputs, torch.tensor(film.labels).to(device))
    return logits.cpu().numpy(), attribution.cpu().numpy()


def finish(session: Session) -> dict[str, Any]:
    """Test the best-on-val weights once, project their logits, store the models and write the summary."""
    learner, here, writer, splits = session.learner, session.here, session.writer, session.splits
    last = {key: value.clone() for key, value in learner.judged.state_dict().items()}
    best = learner.judged
    best.load_state_dict(load_file(session.state / "best.safetensors"))
    val = metrics.summarize(logits_of(best, splits.val, device=here.device), splits.val.labels)
    logits = logits_of(best, splits.test, device=here.device)
    test = metrics.summarize(logits, splits.test.labels)
    points, shown = splits.samples, logits[: len(splits.samples)]
    layouts = {method: embedding.project(shown, method) for method in embedding.METHODS}
    arrays = {"ids": points.ids, "labels": points.labels, "logits": shown, **layouts}
    writer.embeddings("test", session.config.epochs, **arrays)
    separability = {
        f"{method}/{name}": value
        for method, layout in layouts.items()
        for name, value in embedding.separability(shown, layout, points.labels).items()
    }
    numbers = {f"val/{k}": v for k, v in val.items()} | {f"test/{k}": v for k, v in test.items()}
    stored = store_models(session, numbers, last)
    per_class = metrics.per_class_accuracy(logits, splits.test.labels)
    summary = {
        "run": session.run,
        "key": session.config.key,
        **stored,
        "epochs": session.config.epochs,
        "best_epoch": session.best_epoch,
        "metrics": numbers,
        "per_class_accuracy": dict(zip(splits.classes, per_class.tolist(), strict=True)),
        "confusion": metrics.confusion(logits, splits.test.labels).tolist(),
        "separability": separability,
        "time_s": round(writer.elapsed_s(), 2),
    }
    writer.finish(summary)
    for file in session.state.glob("*"):
        file.unlink()
    return summary


def store_models(session: Session, numbers: dict[str, float], last: dict[str, Tensor]) -> dict[str, str]:
    """Put the best weights, and the last where they differ, into the store; return their references by role."""
    if session.place.save == "none":
        return {}
    model = session.learner.judged
    best = session.store.add_model(model, card_of(session, "best", session.best_epoch, numbers))
    stored = {"best": best.reference}
    if session.place.save == "best_last" and session.best_epoch < session.config.epochs:
        model.load_state_dict(last)
        row = next(row for row in reversed(session.writer.rows()) if "val/acc1" in row)
        final = {key: value for key, value in row.items() if key.startswith("val/")}
        card = card_of(session, "last", session.config.epochs, final)
        stored["last"] = session.store.add_model(model, card).reference
    return stored


def card_of(session: Session, role: str, epoch: int, numbers: dict[str, float]) -> Card:
    """Describe the weights of this run for the store."""
    config, splits, build = session.config, session.splits, session.learner.classifier.build_args
    return Card(
        name=collection(config.dataset, config.model),
        dataset=config.dataset,
        model=config.model,
        build=build,
        classes=splits.classes,
        image_size=splits.image_size,
        in_chans=splits.in_chans,
        mean=tuple(build["mean"]),
        std=tuple(build["std"]),
        fingerprint=splits.fingerprint,
        samples=splits.fingerprint,
        metrics=numbers,
        config=dataclasses.asdict(config),
        run=session.run,
        role=role,
        epoch=epoch,
        seed=config.seed,
        **records.provenance(),
    )


def save(session: Session) -> None:
    """Save what a resume needs; between epochs and at recorded steps nothing else is in flight."""
    if session.here.is_main:
        numbers = {
            "step": session.learner.step,
            "best_epoch": session.best_epoch,
            "best_acc1": session.best_acc1,
            "elapsed_s": session.writer.elapsed_s(),
        }
        save_state(session.state / FILE, session.learner.modules(), session.learner.optimizer, numbers)


def stop_if_asked(session: Session) -> None:
    """Save and stop if a signal came to any rank, unless the run is through anyway."""
    done = session.learner.step == session.config.epochs * session.batches.steps_per_epoch
    if session.here.any(bool(session.stop_signal)) and not done:
        save(session)
        session.here.barrier()
        raise InterruptedTraining(session.run, session.learner.step, session.stop_signal)


@contextlib.contextmanager
def stop_on_signals(session: Session) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM ask for a stop at the next recorded step; the second acts at once."""
    signals = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {one: signal.getsignal(one) for one in signals}

        def ask(signum: int, _frame: object) -> None:
            session.stop_signal = signum
            restore()

        def restore() -> None:
            for one, handler in before.items():
                signal.signal(one, handler)

        for one in signals:
            signal.signal(one, ask)
    except ValueError:  # signals belong to the main thread; elsewhere the caller stops the run
        yield
        return
    try:
        yield
    finally:
        restore()


@contextlib.contextmanager
def open_session(config: TrainConfig, place: Place, here: Ranks, sinks: Sequence[Sink]) -> Iterator[Session]:
    """Load the data, build the model, open or reopen the run's folder, and bring back a saved state."""
    store = Store(place.artifacts)
    if place.resume:
        config = stored_config(store, place.resume, config)
    splits = data.load(config.dataset, place.data, config.image_size, config.val_fraction)
    torch.manual_seed(config.seed)
    classifier = models.build(
        config.model,
        splits.num_classes,
        splits.image_size,
        splits.in_chans,
        mean=splits.mean,
        std=splits.std,
        stem=config.stem,
        patch_size=config.patch_size,
        drop_path=config.drop_path,
        pretrained=config.pretrained,
    )
    batches = Batches(
        splits.train,
        config.batch_size,
        _augmentation(config, splits),
        splits.num_classes,
        seed=config.seed,
        device=here.device,
        rank=here.rank,
        world=here.world,
    )
    learner = make_learner(config, classifier, here, batches.steps_per_epoch)
    if here.is_main:
        store.add_samples(splits)
    folder = (
        store.root
        / "runs"
        / (place.resume or records.new_run_name(collection(config.dataset, config.model), place.name))
    )
    with _open_writer(folder, config, place, learner, here, sinks) as (writer, numbers):
        total = config.epochs * batches.steps_per_epoch
        with training_bar(f"{config.dataset} {config.model}", total, learner.step, here.is_main) as bar:
            best = {name: numbers[name] for name in ("best_epoch", "best_acc1") if name in numbers}
            yield Session(config, place, here, splits, batches, learner, store, writer, bar, **best)


def _augmentation(config: TrainConfig, splits: Splits) -> Augmentation:
    return Augmentation(
        crop=config.augment,
        flip=config.augment and splits.info.flip,
        erase=config.erase,
        mixup=config.mixup,
        cutmix=config.cutmix,
    )


@contextlib.contextmanager
def _open_writer(
    folder: Path, config: TrainConfig, place: Place, learner: Learner, here: Ranks, sinks: Sequence[Sink]
) -> Iterator[tuple[RunWriter, dict[str, Any]]]:
    """Create the run's folder or reopen it at its saved state; one process at a time owns a run."""
    numbers: dict[str, Any] = {}
    if (folder / "state" / FILE).is_file():
        numbers = load_state(folder / "state" / FILE, learner.modules(), learner.optimizer)
        learner.resume_at(numbers["step"])
    here.barrier()
    if not here.is_main:
        yield RunWriter(folder), numbers
        return
    if not place.resume:
        RunWriter.create(folder, _content(config, place, learner))
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield (
                RunWriter.reopen(folder, learner.step if numbers else -1, numbers.get("elapsed_s", 0.0), sinks),
                numbers,
            )
    except Timeout:
        raise ValueError(f"another process is training run {folder.name}; wait for it or stop it") from None


def _content(config: TrainConfig, place: Place, learner: Learner) -> dict[str, Any]:
    where = {
        name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(place).items()
    }
    return {
        "config": dataclasses.asdict(config),
        "key": config.key,
        "place": where,
        "precision": str(learner.precision).removeprefix("torch."),
        **records.provenance(),
    }


def stored_config(store: Store, run: str, given: TrainConfig) -> TrainConfig:
    """Return the config of a run that is to be continued.

    Raises:
        ValueError: If there is no such run, it is done, or flags ask for something else than it was started with.
    """
    folder = store.root / "runs" / run
    if Path(run).name != run or not (folder / "config.json").is_file():
        unfinished = [one.name for one in records.runs(store.root) if one.summary is None]
        raise ValueError(f"no run {run!r} in {store.root}; unfinished runs: {', '.join(unfinished) or 'none'}")
    if (folder / "summary.json").is_file():
        raise ValueError(f"run {run} is done; start another with other flags")
    config = TrainConfig(**records.Run(folder).config["config"])
    if given not in (config, TrainConfig()):
        raise ValueError("a resumed run keeps its own config; leave the other flags out")
    return config
