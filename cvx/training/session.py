"""Open a run: load its data, build its model, create its folder or go on from its saved state."""

import contextlib
import dataclasses
import math
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from cvx import data, models
from cvx.config import RunOptions, TrainConfig
from cvx.data.augment import Augmentation
from cvx.data.batches import Batches
from cvx.data.dataset_types import NUM_FILM, Split, Splits
from cvx.distributed import Ranks
from cvx.progress import Bar, training_bar
from cvx.store import Store, provenance, runs
from cvx.store.runs import RunWriter, Sink
from cvx.store.store import collection
from cvx.training.saved_state import FILE, load_state
from cvx.training.step import Learner, make_learner


@dataclasses.dataclass
class Session:
    """One run at work: what it reads, what it changes, where it writes."""

    config: TrainConfig
    options: RunOptions
    ranks: Ranks
    splits: Splits
    film: Split
    """The first samples, at the dataset's own size: their maps are kept through training."""
    batches: Batches
    learner: Learner
    store: Store
    writer: RunWriter
    bar: Bar
    best_epoch: int = -1
    best_acc1: float = -1.0
    best_loss: float = math.inf
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


@contextlib.contextmanager
def stop_on_signals(session: Session) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM ask for a stop at the next recorded step; the second acts at once."""
    signals = (signal.SIGINT, signal.SIGTERM)
    try:
        handlers = {signum: signal.getsignal(signum) for signum in signals}

        def ask(signum: int, _frame: object) -> None:
            session.stop_signal = signum
            restore()

        def restore() -> None:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)

        for signum in signals:
            signal.signal(signum, ask)
    except ValueError:  # signals belong to the main thread; elsewhere the caller stops the run
        yield
        return
    try:
        yield
    finally:
        restore()


@contextlib.contextmanager
def open_session(config: TrainConfig, options: RunOptions, ranks: Ranks, sinks: Sequence[Sink]) -> Iterator[Session]:
    """Load the data, build the model, open or reopen the run's folder, and bring back a saved state."""
    # Take up the config of the run that is continued
    store = Store(options.artifacts)
    if options.resume:
        config = stored_config(store, options.resume, config)

    # Load the data
    splits = data.load(config.dataset, options.data, config.image_size, config.val_fraction)

    # Build the model, from the seed alone
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

    # Set up its training on this rank
    batches = Batches(
        splits.train,
        config.batch_size,
        _augmentation(config, splits),
        splits.num_classes,
        seed=config.seed,
        device=ranks.device,
        rank=ranks.rank,
        world=ranks.world,
    )
    learner = make_learner(config, classifier, ranks, batches.steps_per_epoch)

    # Put the samples into the store; an older run's film goes on at the size that it began with
    film = splits.samples.head(NUM_FILM)
    if ranks.is_main:
        samples = store.add_samples(splits)
        if not options.resume or "samples" in store.run(options.resume).config:
            film = samples.split.head(NUM_FILM)

    # Create the run's folder or reopen it, and train
    name = options.resume or runs.new_run_name(collection(config.dataset, config.model), options.name)
    folder = store.runs_root / name
    title = f"{config.dataset} {config.model}"
    num_steps = config.epochs * batches.steps_per_epoch
    with _open_writer(folder, config, options, learner, splits, ranks, sinks) as (writer, numbers):
        with training_bar(title, num_steps, learner.step, ranks.is_main) as bar:
            best = {name: numbers[name] for name in ("best_epoch", "best_acc1", "best_loss") if name in numbers}
            yield Session(config, options, ranks, splits, film, batches, learner, store, writer, bar, **best)


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
    folder: Path,
    config: TrainConfig,
    options: RunOptions,
    learner: Learner,
    splits: Splits,
    ranks: Ranks,
    sinks: Sequence[Sink],
) -> Iterator[tuple[RunWriter, dict[str, Any]]]:
    """Create the run's folder or reopen it at its saved state; one process at a time owns a run."""
    # Bring back the saved state, if there is one, on every rank
    numbers: dict[str, Any] = {}
    state = folder / "state" / FILE
    if options.resume and state.is_file():
        numbers = load_state(state, learner.modules(), learner.optimizer)
        learner.resume_at(numbers["step"])
    ranks.barrier()

    # Let the first rank alone write
    if not ranks.is_main:
        yield RunWriter(folder), numbers
        return
    if not options.resume:
        folder = RunWriter.create(folder, _content(config, options, learner, splits)).folder
    step = learner.step if numbers else -1
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield RunWriter.reopen(folder, step, numbers.get("elapsed_s", 0.0), sinks), numbers
    except Timeout:
        raise ValueError(f"another process is training run {folder.name}; wait for it or stop it") from None


def _content(config: TrainConfig, options: RunOptions, learner: Learner, splits: Splits) -> dict[str, Any]:
    place = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    place["sweep"] = os.environ.get("WANDB_SWEEP_ID", "")  # W&B's agent tells its trials so
    return {
        "config": dataclasses.asdict(config),
        "key": config.key,
        "place": place,
        "precision": str(learner.precision).removeprefix("torch."),
        "source": splits.source,
        "samples": splits.samples_fingerprint,
        **provenance.provenance(),
    }


def stored_config(store: Store, run: str, given: TrainConfig) -> TrainConfig:
    """Return the config of a run that is to be continued.

    Raises:
        ValueError: If there is no such run, it is done, or flags ask for something else than it was started with.
    """
    folder = store.run(run).folder
    if Path(run).name != run or not store.run(run).exists:
        unfinished = [known.name for known in runs.list_runs(store.root) if known.summary is None]
        raise ValueError(f"no run {run!r} in {store.root}; unfinished runs: {', '.join(unfinished) or 'none'}")
    if store.run(run).done:
        raise ValueError(f"run {run} is done; start another with other flags")
    config = TrainConfig(**runs.Run(folder).config["config"])
    if given not in (config, TrainConfig()):
        raise ValueError("a resumed run keeps its own config; leave the other flags out")
    return config
