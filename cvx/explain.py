"""One or many models over a split: a tree of figures, the raw maps behind them, and a page per class."""

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from cvx import data, figures, render
from cvx.attribution import METHODS, REDUCTIONS, SCORES
from cvx.checkpoint import Card
from cvx.comparison import TARGETS, ClassView, View, class_index, look, sum_up
from cvx.data.splits import NUM_GALLERY, Split
from cvx.files import whole_folder, write_json
from cvx.store import ModelEntry, Store, slug

SPLITS = ("samples", "test", "val", "train")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of every model; the defaults are what a folder named like its model answers."""

    targets: str = "label"
    """label, pred, or the name of a class: the class whose score is explained."""
    split: str = "samples"
    """samples (the store's fixed test images; they need no dataset), test, val or train."""
    num: int = NUM_GALLERY
    """Images looked at, from the front of the split, which is in a fixed, stratified order; 0 takes all."""
    per_class: int = 8
    """Images of each class that get a figure and raw maps; 0 takes all."""
    score: str = "logit"
    """logit, logprob, or margin (the logit less the mean of all)."""
    method: str = "gradient"
    """gradient, smoothgrad or integrated_gradients."""
    reduction: str = "max"
    """How channels become one: max or sum of their magnitudes, or signed (their sum)."""

    def __post_init__(self) -> None:
        choices = {"split": SPLITS, "score": SCORES, "method": METHODS, "reduction": REDUCTIONS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(allowed)}")
        for name in ("num", "per_class"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 (all) or more, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Answer:
    """What one model's maps say and where they lie."""

    reference: str
    card: Card
    question: Question
    folder: Path
    num_figures: int
    views: tuple[ClassView, ...]
    """One for each class that has an image."""
    ids: Int64[np.ndarray, "n"]
    """The images looked at, by their place in the dataset's own order."""
    warnings: tuple[str, ...] = ()


def explain(
    store: Store,
    references: Sequence[str],
    question: Question | None = None,
    *,
    data_root: Path | None = None,
    device: torch.device | str = "cpu",
    show_progress: bool = False,
) -> list[Answer]:
    """Draw the maps of each model into `attributions/<dataset>/<model>/`.

    A folder holds `<class>_<i>.png` (the i-th image of a class: image, map, overlay), `maps.npz` (ids,
    labels, targets, logits and signed attributions of the images that have a figure), `classes/<class>.png`
    and `card.json`. It appears whole, in place of an older one. Memory: the arrays of maps.npz, and the maps
    of one class.

    Args:
        data_root: Where datasets are found; the split `samples` needs none.

    Raises:
        ValueError: If a reference, target or split does not exist.
    """
    question = question or Question()
    entries = {(entry := store.resolve(reference)).reference: entry for reference in references}
    for entry in entries.values():
        if entry.card is None:
            raise ValueError(entry.error)
        if question.targets not in TARGETS:
            class_index(entry.card, question.targets)
    return [_answer(store, entry, question, data_root, device, show_progress) for entry in entries.values()]


def _answer(
    store: Store,
    entry: ModelEntry,
    question: Question,
    data_root: Path | None,
    device: torch.device | str,
    show_progress: bool,
) -> Answer:
    classifier, card = entry.load()
    images = _images(store, card, question, data_root)
    classifier.to(device)
    final = store.root / "attributions" / slug(card.dataset) / folder_name(entry, question)
    with whole_folder(final.parent) as folder:
        atlas = _Atlas(folder, question, images)
        for label, rows in _classes(images.split, entry.reference, show_progress):
            pixels, labels = images.split.images[rows], images.split.labels[rows]
            asked = (question.targets, labels, images.classes, question.score, question.method)
            atlas.draw(look(entry.reference, classifier, card, pixels, *asked), label, rows)
        num_figures = atlas.save_maps()
        write_json(folder / "card.json", _card(entry.reference, card, question, images, atlas.views))
        _swap(folder, final)
    ids = np.array(images.split.ids)
    return Answer(entry.reference, card, question, final, num_figures, tuple(atlas.views), ids, images.warnings)


@dataclass(frozen=True, eq=False)
class _Images:
    split: Split
    classes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def _images(store: Store, card: Card, question: Question, data_root: Path | None) -> _Images:
    warnings: tuple[str, ...] = ()
    if question.split == "samples":
        samples = store.samples(card.dataset, card.samples)
        split, classes = samples.split, samples.classes
    elif data_root is None:
        raise ValueError(f"the split {question.split!r} needs the dataset: name the data root, or take the samples")
    else:
        splits = data.load(card.dataset, data_root, card.image_size, card.config.get("val_fraction", 0.1))
        split, classes = getattr(splits, question.split), splits.classes
        if card.fingerprint not in ("", splits.fingerprint):
            warnings = (f"{card.dataset} in {data_root} is not the data that {card.name} was trained on",)
    return _Images(split.head(question.num) if question.num else split, classes, warnings)


def _classes(split: Split, title: str, show_progress: bool) -> Iterator[tuple[int, Int64[np.ndarray, "n"]]]:
    """Go through the classes that have images, with a progress bar on a terminal; give class and rows."""
    from rich.console import Console
    from rich.progress import track

    labels = np.asarray(split.labels)
    present = np.unique(labels).tolist()
    console = Console(stderr=True)
    for label in track(
        present, title, console=console, transient=True, disable=not (show_progress and console.is_terminal)
    ):
        yield label, np.flatnonzero(labels == label).astype(np.int64)


class _Atlas:
    """The figures of one answer, drawn class by class into a folder."""

    def __init__(self, folder: Path, question: Question, images: _Images) -> None:
        self.views: list[ClassView] = []
        self._folder, self._question, self._images = folder, question, images
        self._stems = file_stems(images.classes)
        self._raw: list[dict[str, np.ndarray]] = []
        (folder / "classes").mkdir()

    def draw(self, view: View, label: int, rows: Int64[np.ndarray, "n"]) -> None:
        """Draw what a model sees in the images of one class."""
        few = rows[: self._question.per_class] if self._question.per_class else rows
        for i, row in enumerate(few.tolist()):
            self._draw_image(view, i, label, row)
        split, names = self._images.split, ("targets", "logits", "attribution")
        kept = {name: getattr(view, name)[: len(few)].copy() for name in names}
        self._raw.append({"ids": split.ids[few], "labels": split.labels[few], **kept})
        self._draw_class(view, label, rows)

    def _draw_image(self, view: View, i: int, label: int, row: int) -> None:
        where = f"Image {self._images.split.ids[row]} ({self._question.split})."
        figure = figures.image_figure(view, i, self._images.classes[label], self._question.reduction, where)
        (self._folder / f"{self._stems[label]}_{i}.png").write_bytes(render.png_bytes(figure))

    def _draw_class(self, view: View, label: int, rows: Int64[np.ndarray, "n"]) -> None:
        masks = None if self._images.split.masks is None else self._images.split.masks[rows]
        summed = sum_up(view, rows, self._images.classes[label], masks, reduction=self._question.reduction)
        page = figures.class_page([summed], view.card.dataset, self._question.targets)
        (self._folder / "classes" / f"{self._stems[label]}.png").write_bytes(render.png_bytes(page))
        self.views.append(summed)

    def save_maps(self) -> int:
        """Write the raw maps of all images that have a figure, and return their number."""
        arrays: dict[str, Any] = {name: np.concatenate([part[name] for part in self._raw]) for name in self._raw[0]}
        np.savez(self._folder / "maps.npz", **arrays)
        return len(arrays["ids"])


def folder_name(entry: ModelEntry, question: Question) -> str:
    """Name an answer's folder: `model` for best weights and the default question, else `model@v3-pred`, …"""
    asked = asdict(question)
    told = [asked[name] for name in ("score", "method", "split", "reduction") if asked[name] != _DEFAULTS[name]]
    if "best" in entry.aliases and question.targets == "label" and not told:
        return entry.name
    return "-".join([f"{entry.name}@v{entry.version}", *file_stems([question.targets]), *told])


_DEFAULTS = {field.name: field.default for field in fields(Question)}


def file_stems(classes: Sequence[str]) -> list[str]:
    """Turn class names into file names that every file system takes and no two classes share."""
    stems: list[str] = []
    taken: set[str] = set()
    for i, name in enumerate(classes):
        stem = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "class"
        while stem.casefold() in taken:
            stem = f"{stem}-{i}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _swap(folder: Path, final: Path) -> None:
    """Put a finished folder in the place of an older one."""
    old = folder.with_name(f"{folder.name}-old")
    if final.exists():
        final.rename(old)
    folder.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def _card(
    reference: str, card: Card, question: Question, images: _Images, views: Sequence[ClassView]
) -> dict[str, Any]:
    numbers = ("num", "num_zero", "accuracy", "center_bias", "mass_on_mask", "mask_share")
    facts = {view.class_name: {name: _finite(getattr(view, name)) for name in numbers} for view in views}
    about = {"model": reference, "sha256": card.sha256, "dataset": card.dataset, **asdict(question)}
    return {
        **about,
        "unit": figures.unit(question.score, question.method),
        "classes": images.classes,
        "facts": facts,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value


def side_by_side(answers: Sequence[Answer]) -> list[Path]:
    """Draw a page per class with all models that answered for the same images; return the folders, `a+b`."""
    groups: dict[tuple[str, tuple[str, ...], bytes], list[Answer]] = {}
    for answer in answers:
        names = tuple(view.class_name for view in answer.views)
        groups.setdefault((answer.card.dataset, names, answer.ids.tobytes()), []).append(answer)
    return [_draw_together(group) for group in groups.values() if len(group) > 1]


def _draw_together(group: Sequence[Answer]) -> Path:
    final = group[0].folder.parent / _joint_name([answer.folder.name for answer in group])
    stems = file_stems([view.class_name for view in group[0].views])
    with whole_folder(final.parent) as folder:
        for stem, views in zip(stems, zip(*(answer.views for answer in group), strict=True), strict=True):
            page = figures.class_page(views, group[0].card.dataset, group[0].question.targets)
            (folder / f"{stem}.png").write_bytes(render.png_bytes(page))
        _swap(folder, final)
    return final


def _joint_name(names: Sequence[str]) -> str:
    """Join folder names by `+`, which no model's name has; many become their number and a digest."""
    joint = "+".join(names)
    if len(joint) <= 120:
        return joint
    return f"{len(names)}-models+{hashlib.sha256(joint.encode()).hexdigest()[:8]}"
