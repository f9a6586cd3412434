"""The loop: data and a model in, a stored model and a recorded run out."""

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
from cvx.data.splits import NUM_GALLERY, Split
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


class InterruptedTraining(KeyboardInterrupt):
    """Training was asked to stop; its state is saved."""

    def __init__(self, run: str, step: int, signum: int):
        super().__init__(f"stopped after step {step}; continue with: python -m cvx train --resume={run}")
        self.run, self.step, self.signum = run, step, signum


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
    """Run every epoch still to do; look at the model after each, and save the state."""
    learner, per_epoch = session.learner, session.batches.steps_per_epoch
    log_every = max(1, per_epoch // LOGS_PER_EPOCH)
    if learner.step == 0:
        evaluate_and_record(session, epoch=0)
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
        evaluate_and_record(session, epoch + 1)
        save(session)
        stop_if_asked(session)


def record(session: Session, window: list[tuple[Tensor, Tensor]], seconds: float) -> None:
    """Record the steps since the last row; a loss that is not finite ends the run."""
    learner, ranks = session.learner, session.ranks
    losses, hits = (ranks.mean(torch.stack(values)) for values in zip(*window, strict=True))
    if not bool(torch.isfinite(losses).all()):
        bad = learner.step - len(window) + 1 + int((~torch.isfinite(losses)).nonzero()[0])
        raise DivergedError(_diverged(session, bad))
    if ranks.is_main:
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


def evaluate_and_record(session: Session, epoch: int) -> None:
    """Evaluate on val; record maps of the film samples, numbers of them and a picture of the logits; keep the best.

    Best is the highest accuracy; of equals, which are many where val is small, the one with the lower loss.
    """
    model, writer, ranks = session.learner.eval_model, session.writer, session.ranks
    precision = session.learner.precision  # as steps compute; float32 takes longer, and has the last word in `finish`
    logits = logits_of(
        model, session.splits.val, device=ranks.device, rank=ranks.rank, world=ranks.world, autocast_dtype=precision
    )
    numbers = classification.summarize(logits, session.splits.val.labels)
    if epoch and (numbers["acc1"], -numbers["loss"]) > (session.best_acc1, -session.best_loss):
        session.best_epoch, session.best_acc1, session.best_loss = epoch, numbers["acc1"], numbers["loss"]
        if ranks.is_main:
            write_tensors(session.state / "best.safetensors", model.state_dict())
    if not ranks.is_main:
        return
    row = {f"val/{name}": value for name, value in numbers.items()}
    if epoch not in runs.frame_epochs(session.config.epochs):
        session.bar.row(writer.log(session.learner.step, epoch, row))
        return
    film = session.film
    found, attribution = maps_of(model, film, ranks.device)
    row |= frame_numbers(runs.Run(writer.folder), epoch, attribution, film.masks)
    session.bar.row(writer.log(session.learner.step, epoch, row))
    writer.film(epoch, film.labels, found, attribution)
    points, shown = session.splits.val.head(NUM_GALLERY), logits[:NUM_GALLERY]
    arrays = {"ids": points.ids, "labels": points.labels, "logits": shown}
    writer.embeddings(f"{epoch:04d}", epoch, **arrays, pca=embedding.project(shown, "pca"))


def maps_of(model: models.Classifier, film: Split, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of a few images and the gradient maps of their labels, on the images' own pixels."""
    inputs = to_inputs(torch.tensor(film.images, device=device))
    own = model.of(*film.images.shape[2:])
    logits, attribution = attribute(own, inputs, torch.tensor(film.labels).to(device))
    return logits.cpu().numpy(), attribution.cpu().numpy()


def finish(session: Session) -> dict[str, Any]:
    """Test the best-on-val weights once, project their logits, store the models and write the summary."""
    learner, ranks, writer, splits = session.learner, session.ranks, session.writer, session.splits
    last = {key: value.clone() for key, value in learner.eval_model.state_dict().items()}
    best = learner.eval_model
    best.load_state_dict(load_file(session.state / "best.safetensors"))
    val = classification.summarize(logits_of(best, splits.val, device=ranks.device), splits.val.labels)
    logits = logits_of(best, splits.test, device=ranks.device)
    test = classification.summarize(logits, splits.test.labels)
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
    per_class = classification.per_class_accuracy(logits, splits.test.labels)
    summary = {
        "run": session.run,
        "key": session.config.key,
        **stored,
        "epochs": session.config.epochs,
        "best_epoch": session.best_epoch,
        "metrics": numbers,
        "per_class_accuracy": dict(zip(splits.classes, per_class.tolist(), strict=True)),
        "confusion": classification.confusion(logits, splits.test.labels).tolist(),
        "separability": separability,
        "time_s": round(writer.elapsed_s(), 2),
    }
    writer.finish(summary)
    for file in session.state.glob("*"):
        file.unlink()
    return summary


def store_models(session: Session, numbers: dict[str, float], last: dict[str, Tensor]) -> dict[str, str]:
    """Put the best weights, and the last where they differ, into the store; return their references by role."""
    if session.options.save == "none":
        return {}
    model = session.learner.eval_model
    best = session.store.add_model(model, card_of(session, "best", session.best_epoch, numbers))
    stored = {"best": best.reference}
    if session.options.save == "best_last" and session.best_epoch < session.config.epochs:
        model.load_state_dict(last)
        val = session.splits.val
        final = classification.summarize(logits_of(model, val, device=session.ranks.device), val.labels)
        final = {f"val/{name}": value for name, value in final.items()}
        card = card_of(session, "last", session.config.epochs, final)
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
    done = session.learner.step == session.config.epochs * session.batches.steps_per_epoch
    if session.ranks.any(bool(session.stop_signal)) and not done:
        save(session)
        session.ranks.barrier()
        raise InterruptedTraining(session.run, session.learner.step, session.stop_signal)
