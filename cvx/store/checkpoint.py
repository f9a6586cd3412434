"""Save and load a model's weights and card. Nothing here is ever unpickled."""

import dataclasses
import hashlib
import math
import shutil
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cvx.data.dataset_types import Splits
from cvx.files import read_json, whole_file, write_json
from cvx.models import Classifier, build

WEIGHTS = "model.safetensors"
CARD = "card.json"


class DamagedError(ValueError):
    """A stored model that cannot be trusted: a file is missing, cut short or changed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """All that is needed to use a stored model, with no config and no dataset at hand."""

    name: str
    """The collection: `slug(dataset)-slug(model)`, or a name of the user's own."""
    dataset: str
    """The dataset as its trainer named it."""
    model: str
    """The model as its trainer named it."""
    build: dict[str, Any]
    """Arguments that make `models.build` give exactly this architecture."""
    classes: tuple[str, ...]
    image_size: int
    in_chans: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str = ""
    """Of the dataset it was trained on, at the size that it was trained at."""
    source: str = ""
    """Digest of the dataset's content, the same at every size and on every machine; empty in older cards."""
    samples: str = ""
    """Fingerprint of the samples its maps are drawn for; empty if there are none."""
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    """Final numbers by `split/name`."""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    run: str = ""
    role: str = "best"
    """best, last or imported."""
    epoch: int = 0
    seed: int = 0
    created: str = ""
    """ISO 8601, UTC."""
    git_commit: str = ""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    num_params: int = 0
    sha256: str = ""
    """Of the weights file."""
    origin: str = ""
    """`entity/project/name:v` if the model was pulled."""


def describe(classifier: Classifier, splits: Splits, **facts: Any) -> Card:
    """Fill in what a card takes from the model and from the dataset it was trained on; the rest are `facts`."""
    build = classifier.build_args
    return Card(
        build=build,
        classes=splits.classes,
        image_size=splits.image_size,
        in_chans=splits.in_chans,
        mean=tuple(build["mean"]),
        std=tuple(build["std"]),
        fingerprint=splits.fingerprint,
        source=splits.source,
        samples=splits.samples_fingerprint,
        **facts,
    )


def save(folder: Path, classifier: Classifier, card: Card) -> Card:
    """Write weights and card into an existing folder and return the card with the weights' digest."""
    write_tensors(folder / WEIGHTS, classifier.state_dict())
    full = dataclasses.replace(
        card,
        sha256=digest(folder / WEIGHTS),
        num_params=sum(parameter.numel() for parameter in classifier.parameters()),
    )
    write_json(folder / CARD, dataclasses.asdict(full))
    return full


def copy(source: Path, folder: Path, card: Card) -> Card:
    """Copy a stored model's weights into an existing folder, with a card of its own."""
    shutil.copyfile(source / WEIGHTS, folder / WEIGHTS)
    write_json(folder / CARD, dataclasses.asdict(card))
    return card


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as a safetensors file, whole or not at all.

    Raises:
        OSError: If the disk is full or read-only; what was there before is untouched.
    """
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    with whole_file(path) as temporary:
        try:
            save_file(plain, temporary, metadata=metadata)
        except SafetensorError as error:  # a full or read-only disk arrives as text
            raise OSError(f"{path} could not be written: {error}") from None


def read_card(folder: Path) -> Card:
    """Read and check a stored model's card.

    Raises:
        DamagedError: If the card is missing, unreadable, or its fields do not fit together.
    """
    path = folder / CARD
    if not path.is_file():
        raise DamagedError(f"{folder} holds no {CARD}; it is no stored model, or was cut short: delete the folder")
    try:
        content = read_json(path)
    except ValueError as error:
        raise DamagedError(str(error)) from None
    content.pop("format")
    known = {field.name for field in dataclasses.fields(Card)}
    try:
        card = Card(**{key: _tuple(value) for key, value in content.items() if key in known})
        _check(card)
    except (TypeError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from None
    return card


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check(card: Card) -> None:
    for field in dataclasses.fields(Card):
        value, allowed = getattr(card, field.name), _TYPES[field.name]
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise ValueError(f"{field.name} must be {allowed.__name__}, got {type(value).__name__}")
    if not 2 <= len(card.classes) <= 100_000 or not all(isinstance(name, str) for name in card.classes):
        raise ValueError(f"expected 2 to 100,000 class names, got {len(card.classes)} entries")
    if not 1 <= card.image_size <= 4096 or card.in_chans not in (1, 3):
        raise ValueError(f"image size {card.image_size} with {card.in_chans} channels is out of range")
    numbers = (*card.mean, *card.std)
    if len(card.mean) != card.in_chans or len(card.std) != card.in_chans:
        raise ValueError(f"mean and std must have {card.in_chans} values each")
    if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers) or min(card.std) <= 0:
        raise ValueError(f"mean and std must be finite and std positive, got {card.mean}, {card.std}")
    if card.build.get("num_classes") != len(card.classes) or not isinstance(card.build.get("name"), str):
        raise ValueError("build must name a model and as many classes as the card lists")
    for name in ("image_size", "in_chans"):
        if card.build.get(name) != getattr(card, name):
            raise ValueError(f"{name} is {getattr(card, name)}, but build says {card.build.get(name)!r}")
    if bad := [name for name, value in card.metrics.items() if not isinstance(value, int | float | None)]:
        raise ValueError(f"metrics must be numbers, got {type(card.metrics[bad[0]]).__name__} for {bad[0]!r}")


_TYPES: dict[str, type] = {name: get_origin(hint) or hint for name, hint in get_type_hints(Card).items()}


def load(folder: Path, card: Card | None = None) -> tuple[Classifier, Card]:
    """Give back a stored model in eval mode on the CPU, with its card.

    Args:
        card: What `read_card` gave for this folder, which is then not read again.

    Raises:
        DamagedError: If the weights are missing, are not those the card was written for, or do not fit the model.
    """
    card, path = card or read_card(folder), folder / WEIGHTS
    if not path.is_file():
        raise DamagedError(f"{folder} holds no {WEIGHTS}; restore the file or delete the folder")
    if (got := digest(path)) != card.sha256:
        raise DamagedError(
            f"{path} is not the file its card describes (sha256 {got[:12]}…, expected {card.sha256[:12]}…);"
            " it was cut short or changed: restore it or delete the folder"
        )
    try:
        _check_shapes(card, path)
        classifier = build(**{**card.build, "pretrained": False})
        classifier.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DamagedError(f"{path} does not fit the model its card names: {reason}") from None
    return classifier.eval(), card


def _check_shapes(card: Card, path: Path) -> None:
    """See that names and shapes fit before any memory is spent on a model that a card merely claims."""
    with torch.device("meta"):
        expected = build(**{**card.build, "pretrained": False}).state_dict()
    with safe_open(path, framework="pt") as stored:
        given = {key: stored.get_slice(key).get_shape() for key in stored.keys()}  # noqa: SIM118
    misfits = [
        key for key in {**expected, **given} if key not in expected or list(expected[key].shape) != given.get(key)
    ]
    if misfits:
        raise ValueError(
            f"{len(misfits)} of {len(given)} tensors are missing, unknown or of another shape, first {misfits[0]!r}"
        )


def digest(path: Path) -> str:
    """Return a file's sha256 in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
