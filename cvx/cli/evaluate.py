"""Test a stored model and compare the numbers with those on its card."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import tyro

import cvx.cli
from cvx.cli.flags import OnDevice, ToWandb, WithData

if TYPE_CHECKING:
    from cvx.data.dataset_types import Split, Splits
    from cvx.distributed import Ranks
    from cvx.store import Store
    from cvx.store.checkpoint import Card
    from cvx.tracking import Findings


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateFlags(OnDevice, WithData, ToWandb):
    """Score a stored model on a split of its dataset."""

    model: tyro.conf.Positional[str]
    """NAME, NAME:best, NAME:latest, NAME:v3 or NAME@RUN."""
    split: Literal["test", "val", "train"] = "test"
    """The part of the dataset to score."""
    samples: str = ""
    """NAME or NAME:v3 of samples in the store to score instead, of any dataset whose classes the model knows."""


TOLERANCE = 1e-3
"""How far a number may lie from the card's: another device or batch size moves the last digits."""


def main(argv: list[str]) -> int:
    """Print the numbers beside the recorded ones; exit code 1 if they differ on the same data."""
    flags = cvx.cli.parse(EvaluateFlags, argv, "evaluate")
    from cvx.distributed import open_ranks
    from cvx.store import Store
    from cvx.tracking import log_command

    store = Store(flags.root)
    with log_command("evaluate", flags.wandb, flags.project, store) as findings, open_ranks(flags.device) as ranks:
        return _evaluate(flags, store, findings, ranks)


def _evaluate(flags: EvaluateFlags, store: "Store", findings: "Findings", ranks: "Ranks") -> int:
    """Score the split with all ranks; the first alone prints and judges."""
    from cvx.metrics import classification
    from cvx.models.predict import logits_of

    entry = store.resolve(flags.model)
    classifier, card = entry.load()
    split, splits = _named(flags, store, card) if flags.samples else _own(flags, entry.reference, card)
    classifier = classifier.to(ranks.device).of(*split.images.shape[2:])
    logits = logits_of(classifier, split, device=ranks.device, rank=ranks.rank, world=ranks.world)
    if not ranks.is_main:
        return 0
    same = splits is not None and _is_its_data(flags, entry.reference, card, splits)
    part = "samples" if splits is None else flags.split
    found = classification.summarize(logits, split.labels)
    recorded = {name: card.metrics.get(f"{part}/{name}") for name in found}
    where = flags.samples if splits is None else f"{card.dataset} {part}"
    _print_numbers(f"{entry.reference} on {where} ({len(split)} images)", found, recorded)
    classes = dict(zip(card.classes, classification.per_class_accuracy(logits, split.labels), strict=True))
    _print_classes(classes)
    findings.models = [entry]
    dataset = card.dataset if splits is not None else flags.samples
    findings.question = {"dataset": dataset, "split": part, "same_data": same}
    findings.numbers = {f"{part}/{name}": value for name, value in found.items()}
    findings.tables = {f"{part}/per_class": (("class", "accuracy"), [list(one) for one in classes.items()])}
    return _verdict(found, recorded) if same else 0


def _named(flags: EvaluateFlags, store: "Store", card: "Card") -> "tuple[Split, None]":
    """Open samples by name, their labels written in the model's numbering of classes."""
    import numpy as np

    from cvx.maps.explanation import label_targets
    from cvx.maps.image_set import images_of

    if flags.split != "test":
        raise ValueError(f"--samples={flags.samples} names the images; leave --split={flags.split} out")
    images = images_of(store, card, samples=flags.samples)
    labels = label_targets(card, np.asarray(images.split.labels), images.classes)
    return dataclasses.replace(images.split, labels=labels), None


def _own(flags: EvaluateFlags, reference: str, card: "Card") -> "tuple[Split, Splits]":
    splits = _splits(flags, reference, card)
    return getattr(splits, flags.split), splits


def _splits(flags: EvaluateFlags, reference: str, card: "Card") -> "Splits":
    from cvx import data

    val_fraction = float(card.config.get("val_fraction", 0.1))
    splits = data.load(card.dataset, flags.data_root, card.image_size, val_fraction)
    if splits.classes != card.classes:
        raise ValueError(f"{card.dataset} in {flags.data_root} has other classes than {reference} was trained on")
    return splits


def _is_its_data(flags: EvaluateFlags, reference: str, card: "Card", splits: "Splits") -> bool:
    """Tell whether this is the data that the model was trained on, and warn if not."""
    if splits.source == card.source if card.source else splits.fingerprint == card.fingerprint:
        return True
    print(
        f"warning: {card.dataset} in {flags.data_root} is not the data that {reference} was trained on"
        f" (fingerprint {splits.fingerprint[:12]}, card {card.fingerprint[:12] or 'none'}): the numbers"
        " cannot be compared with the card's, and images it was trained on may be among those scored",
        file=sys.stderr,
    )
    return False


def _print_numbers(title: str, found: Mapping[str, float], recorded: Mapping[str, float | None]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "now", "on the card", "difference")
    for name, value in found.items():
        before = recorded[name]
        known = ("–", "–") if before is None else (f"{before:.4f}", f"{value - before:+.4f}")
        table.add_row(name, f"{value:.4f}", *known)
    console = Console()
    console.print(title, highlight=False, soft_wrap=True)
    console.print(table)


def _print_classes(accuracies: Mapping[str, float], most: int = 20) -> None:
    """Print each class's accuracy, worst first; of many classes, the ends of the list."""
    from rich.console import Console
    from rich.table import Table

    known = sorted((value, name) for name, value in accuracies.items() if value == value)
    absent = [name for name, value in accuracies.items() if value != value]
    half = len(known) if len(known) <= most else most // 2
    table = Table("class", "accuracy")
    for value, name in known[:half]:
        table.add_row(name, f"{value:.4f}")
    if half < len(known):
        table.add_row(f"… {len(known) - 2 * half} more …", "")
        for value, name in known[-half:]:
            table.add_row(name, f"{value:.4f}")
    for name in absent:
        table.add_row(name, "no image")
    Console().print(table)


def _verdict(found: Mapping[str, float], recorded: Mapping[str, float | None]) -> int:
    """Say whether the card tells the truth."""
    pairs = {name: (value, recorded[name]) for name, value in found.items()}
    known = {name: (value, before) for name, (value, before) in pairs.items() if before is not None}
    differing = [name for name, (value, before) in known.items() if not abs(value - before) <= TOLERANCE]
    if not known:
        print("the card records no numbers of this split")
    elif differing:
        print(f"these differ from the card by more than {TOLERANCE:g}: {', '.join(differing)}", file=sys.stderr)
    else:
        print(f"the numbers are those on the card (within {TOLERANCE:g})")
    return 1 if differing else 0
