"""Train a model: run its epochs, record and save along the way, test the best weights and store them."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from cvx import models
from cvx.attribution import attribute
from cvx.comparison.map_convergence import frame_numbers
from cvx.config import RunOptions, TrainConfig
from cvx.data.batches import to_inputs
from cvx.data.dataset_types import NUM_GALLERY, Split
from cvx.distributed import open_ranks
from cvx.metrics import classification, embedding
from cvx.models.predict import logits_of
from cvx.store import provenance, runs
from cvx.store.checkpoint import Card, describe, write_tensors
from cvx.store.runs import Sink
from cvx.store.store import collection
from cvx.training.saved_state import FILE, save_state
from cvx.training.session import Session, open_session, stop_on_signals

LOGS_PER_EPOCH = 20
"""Rows of training numbers that an epoch is recorded in, about."""


class InterruptedTraining(KeyboardInterrupt):
    """Training was asked to stop; its state is saved."""

    def __init__(self, run: str, step: int, signum: int):
        super().__init__(f"stopped after step {step}; continue with: python -m cvx train --resume={run}")
        self.run = run
        self.step = step
        self.signum = signum


class DivergedError(ValueError):
    """The loss is no longer a number."""


def train(config: TrainConfig, options: RunOptions, sinks: Sequence[Sink] = ()) -> dict[str, Any]:
    """Train one model from data to test; return the run's summary (empty on every rank but the first).

    Raises:
        ValueError: If config, data and model do not fit together.
        DivergedError: If the loss is not finite; the last good state is kept.
        InterruptedTraining: If SIGINT or SIGTERM asked for a stop; the state is saved.
    """
    with open_ranks(options.device) as ranks, open_session(config, options, ranks, sinks) as session:
        with stop_on_signals(session):
            run_epochs(session)
        return finish(session) if ranks.is_main else {}


def run_epochs(session: Session) -> None:
    """Run every epoch still to do; after each, evaluate the model and save the state."""
    learner = session.learner
    steps_per_epoch = session.batches.steps_per_epoch
    log_every = max(1, steps_per_epoch // LOGS_PER_EPOCH)

    # Evaluate the untrained model: what learning starts from
    if learner.step == 0:
        evaluate_and_record(session, epoch=0)

    while learner.step < session.config.epochs * steps_per_epoch:
        epoch = learner.step // steps_per_epoch
        start = learner.step % steps_per_epoch  # a resumed run may begin within an epoch
        window: list[tuple[Tensor, Tensor]] = []
        window_start = time.perf_counter()

        for inputs, targets in session.batches.epoch(epoch, start):
            # Train one step
            window.append(learner.train_step(inputs, targets))
            session.bar.step()
            step_in_epoch = learner.step % steps_per_epoch  # 0 after the epoch's last step
            if step_in_epoch % log_every != 0:
                continue

            # Record the steps since the last row
            record(session, window, time.perf_counter() - window_start)
            window = []
            window_start = time.perf_counter()

            # Stop within the epoch if a signal came; at its end the model is evaluated first
            if step_in_epoch > 0:
                stop_if_asked(session)

        # Evaluate, save, and stop between epochs if a signal came
        evaluate_and_record(session, epoch + 1)
        save(session)
        stop_if_asked(session)


def record(session: Session, window: list[tuple[Tensor, Tensor]], seconds: float) -> None:
    """Record the steps since the last row; a loss that is not finite ends the run."""
    learner = session.learner
    ranks = session.ranks

    # Average over the ranks: what a step returned is its loss and accuracy on this rank's images
    losses = ranks.mean(torch.stack([loss for loss, _ in window]))
    accuracies = ranks.mean(torch.stack([accuracy for _, accuracy in window]))

    # End the run at the first loss that is no number
    is_bad = ~torch.isfinite(losses)
    if bool(is_bad.any()):
        first_step = learner.step - len(window) + 1
        raise DivergedError(_diverged(session, first_step + int(is_bad.nonzero()[0])))

    # Write the row
    if ranks.is_main:
        row = {
            "train/loss": float(losses.mean()),
            "train/acc1": float(accuracies.mean()),
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


def evaluate_and_record(session: Session, epoch: int) -> None:
    """Evaluate on val; keep the best weights; record the numbers, maps of the film samples and a picture of the logits.

    Best is the highest accuracy; of equals, which are many where val is small, the one with the lower loss.
    """
    model = session.learner.eval_model
    ranks = session.ranks
    val = session.splits.val

    # Score val as steps compute; float32 takes longer, and has the last word in `finish`
    precision = session.learner.precision
    logits = logits_of(model, val, device=ranks.device, rank=ranks.rank, world=ranks.world, autocast_dtype=precision)
    numbers = classification.summarize(logits, val.labels)

    # Keep the best weights; the untrained ones are not among them
    is_best = (numbers["acc1"], -numbers["loss"]) > (session.best_acc1, -session.best_loss)
    if epoch > 0 and is_best:
        session.best_epoch = epoch
        session.best_acc1 = numbers["acc1"]
        session.best_loss = numbers["loss"]
        if ranks.is_main:
            write_tensors(session.state / "best.safetensors", model.state_dict())

    # Record; on epochs of the film with its frame
    if ranks.is_main:
        row = {f"val/{name}": value for name, value in numbers.items()}
        if epoch in runs.frame_epochs(session.config.epochs):
            record_frame(session, epoch, row, logits)
        else:
            session.bar.row(session.writer.log(session.learner.step, epoch, row))


def record_frame(session: Session, epoch: int, row: dict[str, float], logits: np.ndarray) -> None:
    """Record a row of val's numbers with those of the film samples' maps, the maps, and val's logits in the plane."""
    writer = session.writer
    film = session.film

    # Draw the film samples' maps and measure them
    film_logits, attribution = maps_of(session.learner.eval_model, film, session.ranks.device)
    row = row | frame_numbers(runs.Run(writer.folder), epoch, attribution, film.masks)
    session.bar.row(writer.log(session.learner.step, epoch, row))
    writer.film(epoch, film.labels, film_logits, attribution)

    # Project the gallery's logits to the plane
    gallery = session.splits.val.head(NUM_GALLERY)
    gallery_logits = logits[:NUM_GALLERY]
    writer.embeddings(
        f"{epoch:04d}",
        epoch,
        ids=gallery.ids,
        labels=gallery.labels,
        logits=gallery_logits,
        pca=embedding.project(gallery_logits, "pca"),
    )


def maps_of(model: models.Classifier, film: Split, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of a few images and the gradient maps of their labels, on the images' own pixels."""
    inputs = to_inputs(torch.tensor(film.images, device=device))
    on_pixels = model.of(*film.images.shape[2:])
    logits, attribution = attribute(on_pixels, inputs, torch.tensor(film.labels).to(device))
    return logits.cpu().numpy(), attribution.cpu().numpy()


def finish(session: Session) -> dict[str, Any]:
    """Test the best-on-val weights once, project their logits, store the models and write the summary."""
    config = session.config
    splits = session.splits
    model = session.learner.eval_model
    device = session.ranks.device

    # Take the best weights; the last ones are kept aside, to be stored too
    last_weights = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(load_file(session.state / "best.safetensors"))

    # Score them in float32: val again, test for the first and only time
    val = classification.summarize(logits_of(model, splits.val, device=device), splits.val.labels)
    test_logits = logits_of(model, splits.test, device=device)
    test = classification.summarize(test_logits, splits.test.labels)
    metrics = _named("val", val) | _named("test", test)

    # Project the samples' logits to the plane, store the models
    separability = record_layouts(session, test_logits[: len(splits.samples)])
    stored = store_models(session, metrics, last_weights)

    # Write the summary; the run is done and needs no saved state any more
    per_class = classification.per_class_accuracy(test_logits, splits.test.labels)
    summary = {
        "run": session.run,
        "key": config.key,
        **stored,
        "epochs": config.epochs,
        "best_epoch": session.best_epoch,
        "metrics": metrics,
        "per_class_accuracy": dict(zip(splits.classes, per_class.tolist(), strict=True)),
        "confusion": classification.confusion(test_logits, splits.test.labels).tolist(),
        "separability": separability,
        "time_s": round(session.writer.elapsed_s(), 2),
    }
    session.writer.finish(summary)
    for file in session.state.glob("*"):
        file.unlink()
    return summary


def _named(part: str, numbers: dict[str, float]) -> dict[str, float]:
    return {f"{part}/{name}": value for name, value in numbers.items()}


def record_layouts(session: Session, logits: np.ndarray) -> dict[str, float]:
    """Project the samples' logits to the plane by every method; return how well each keeps the classes apart."""
    samples = session.splits.samples
    layouts = {method: embedding.project(logits, method) for method in embedding.METHODS}
    session.writer.embeddings(
        "test", session.config.epochs, ids=samples.ids, labels=samples.labels, logits=logits, **layouts
    )
    separability: dict[str, float] = {}
    for method, layout in layouts.items():
        separability |= _named(method, embedding.separability(logits, layout, samples.labels))
    return separability


def store_models(session: Session, metrics: dict[str, float], last_weights: dict[str, Tensor]) -> dict[str, str]:
    """Put the best weights, and the last where they differ, into the store; return their references by role."""
    if session.options.save == "none":
        return {}
    model = session.learner.eval_model
    best = session.store.add_model(model, card_of(session, "best", session.best_epoch, metrics))
    stored = {"best": best.reference}
    if session.options.save == "best_last" and session.best_epoch < session.config.epochs:
        model.load_state_dict(last_weights)
        val = session.splits.val
        numbers = classification.summarize(logits_of(model, val, device=session.ranks.device), val.labels)
        card = card_of(session, "last", session.config.epochs, _named("val", numbers))
        stored["last"] = session.store.add_model(model, card).reference
    return stored


def card_of(session: Session, role: str, epoch: int, numbers: dict[str, float]) -> Card:
    """Describe the weights of this run for the store."""
    config = session.config
    return describe(
        session.learner.classifier,
        session.splits,
        name=collection(config.dataset, config.model),
        dataset=config.dataset,
        model=config.model,
        metrics=numbers,
        config=dataclasses.asdict(config),
        run=session.run,
        role=role,
        epoch=epoch,
        seed=config.seed,
        **provenance.provenance(),
    )


def save(session: Session) -> None:
    """Save what a resume needs; between epochs and at recorded steps nothing else is in flight."""
    if session.ranks.is_main:
        numbers = {
            "step": session.learner.step,
            "best_epoch": session.best_epoch,
            "best_acc1": session.best_acc1,
            "best_loss": session.best_loss,
            "elapsed_s": session.writer.elapsed_s(),
        }
        save_state(session.state / FILE, session.learner.modules(), session.learner.optimizer, numbers)


def stop_if_asked(session: Session) -> None:
    """Save and stop if a signal came to any rank, unless the run is through anyway."""
    is_done = session.learner.step == session.config.epochs * session.batches.steps_per_epoch
    is_asked = session.ranks.any(bool(session.stop_signal))
    if is_asked and not is_done:
        save(session)
        session.ranks.barrier()
        raise InterruptedTraining(session.run, session.learner.step, session.stop_signal)
