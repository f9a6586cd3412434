"""Bring somebody else's checkpoint into the store, checked against a dataset."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cvx.cli
from cvx.cli.flags import WithData, store_flag

if TYPE_CHECKING:
    from rich.console import Console

    from cvx.data.dataset_types import Splits
    from cvx.models import Classifier
    from cvx.models.foreign_weights import Foreign
    from cvx.store.checkpoint import Card


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportFlags(WithData):
    """Store a state dict, or timm's pretrained weights, so that every command and the demo can use it."""

    dataset: str
    """The dataset whose classes the weights tell apart; `folder:PATH` for your own images."""
    model: str
    """The model's name in timm."""
    weights: str
    """A .pth or .safetensors file with a state dict of the timm model, or the word pretrained."""
    weights_key: str = ""
    """Where the file has several weights, the key of those to take, such as state_dict_ema; A.B for B inside A."""
    name: str = ""
    """The name in the store; default: `<dataset>-<model>`."""
    image_size: int = 0
    """Side of the images the weights expect; 0 takes the dataset's own."""
    val_fraction: float = 0.1
    """Share of the training images kept for validation, where the dataset brings no validation split."""
    stem: Literal["auto", "timm"] = "auto"
    """timm: the checkpoint has timm's own stem."""
    patch_size: int = 0
    """Side of a ViT's patches; 0 fits it to the image size."""
    mean: tuple[float, ...] = ()
    """Mean per channel that the weights' images were normalized with, in [0, 1]; default: the dataset's."""
    std: tuple[float, ...] = ()
    """Standard deviation per channel, likewise."""


def main(argv: list[str]) -> int:
    """Build the model, load the weights strictly, test them, store them."""
    flags = cvx.cli.parse(ImportFlags, argv, "import")
    from rich.console import Console

    from cvx import data
    from cvx.store import Store
    from cvx.store.store import NAME, collection

    console, store = Console(), Store(flags.root)
    name = flags.name or collection(flags.dataset, flags.model)
    if not NAME.fullmatch(name):
        raise ValueError(f"a model's name has letters, digits, `_ . -` only, got {name!r}")
    foreign = _foreign(flags, console)  # before the data, so that a wrong path is said before a dataset is downloaded
    splits = data.load(flags.dataset, flags.data_root, flags.image_size, flags.val_fraction)
    classifier = _classifier(flags, splits, foreign)
    numbers = _tested(classifier, splits)
    store.add_samples(splits)
    entry = store.add_model(classifier, _card(flags, name, splits, classifier, numbers))
    chance = 1 / splits.num_classes
    console.print(f"stored as {entry.reference}: test accuracy {numbers['test/acc1']:.4f} (chance {chance:.4f})")
    if numbers["test/acc1"] < 2 * chance:
        console.print(
            "[yellow]that is near chance: do the classes' order, mean, std and image size fit the weights?[/yellow]"
        )
    again = f"python -m cvx attribute {entry.reference}{store_flag(flags.artifacts)}"
    console.print(f"maps:  {again}", highlight=False, soft_wrap=True)
    return 0


def _foreign(flags: ImportFlags, console: "Console") -> "Foreign | None":
    """Read the weights' file; None for timm's pretrained ones."""
    from cvx.models import foreign_weights

    if flags.weights == "pretrained":
        if flags.weights_key:
            raise ValueError("--weights_key chooses within a file; timm's pretrained weights have no keys")
        return None
    found = foreign_weights.read(Path(flags.weights), flags.weights_key)
    if found.averaged:
        ways = " or ".join(f"--weights_key={foreign_weights.shown(key)}" for key in found.averaged)
        told = f"{flags.weights} has averaged weights beside those under {found.key}: {ways} takes them instead"
        console.print(told, highlight=False, markup=False, soft_wrap=True)
    return found


def _tested(classifier: "Classifier", splits: "Splits") -> dict[str, float]:
    from cvx.metrics import classification
    from cvx.models.predict import logits_of

    numbers: dict[str, float] = {}
    for part in ("val", "test"):
        split = getattr(splits, part)
        found = classification.summarize(logits_of(classifier, split), split.labels)
        numbers |= {f"{part}/{name}": value for name, value in found.items()}
    return numbers


def _classifier(flags: ImportFlags, splits: "Splits", foreign: "Foreign | None") -> "Classifier":
    from cvx import models
    from cvx.models import match_weights

    pretrained = foreign is None
    for name, values in (("mean", flags.mean), ("std", flags.std)):
        if values and len(values) != splits.in_chans:
            raise ValueError(f"--{name} must have {splits.in_chans} values for this dataset, got {len(values)}")
    classifier = models.build(
        flags.model,
        splits.num_classes,
        splits.image_size,
        splits.in_chans,
        mean=flags.mean or (None if pretrained else splits.mean),
        std=flags.std or (None if pretrained else splits.std),
        stem=flags.stem,
        patch_size=flags.patch_size,
        pretrained=pretrained,
    )
    if foreign is None:
        _require_trained_head(flags.model, splits.num_classes)
    else:
        match_weights.load_foreign(classifier, foreign)
    return classifier.eval()


def _require_trained_head(model: str, num_classes: int) -> None:
    from timm.models import get_pretrained_cfg

    from cvx.models.building import resolve

    cfg = get_pretrained_cfg(resolve(model))
    if cfg is None or cfg.num_classes != num_classes:
        raise ValueError(
            f"timm's weights of {model} tell {cfg.num_classes if cfg else 'no'} classes apart, the dataset has"
            f" {num_classes}; fine-tune them instead: python -m cvx train --model={model} --pretrained=True"
        )


def _card(
    flags: ImportFlags, name: str, splits: "Splits", classifier: "Classifier", numbers: dict[str, float]
) -> "Card":
    from cvx.store import provenance
    from cvx.store.checkpoint import describe

    return describe(
        classifier,
        splits,
        name=name,
        dataset=flags.dataset,
        model=flags.model,
        metrics=numbers,
        config={"val_fraction": flags.val_fraction} | ({"weights_key": flags.weights_key} if flags.weights_key else {}),
        role="imported",
        **provenance.provenance(),
    )
