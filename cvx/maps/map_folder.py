"""One or many models over a split: a tree of figures, the raw maps behind them, and a page per class."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from cvx.attribution.options import TARGETS, unit
from cvx.data.dataset_types import Split
from cvx.distributed import Ranks
from cvx.files import swap_folder, whole_folder, write_json
from cvx.maps import figures
from cvx.maps.class_summary import ClassSummary, summarize_class
from cvx.maps.explanation import Explanation, ImageExplainer, class_index, explain_images
from cvx.maps.image_set import ImageSet, images_of
from cvx.maps.request import Question
from cvx.metrics.agreement import rounding_error
from cvx.models import Classifier
from cvx.names import file_stems
from cvx.plotting import colors
from cvx.store import ModelEntry, Store
from cvx.store.checkpoint import Card
from cvx.store.store import slug

ROUNDED = 16
"""Images whose maps in a faster precision are held against float32."""


@dataclass(frozen=True, eq=False)
class MapFolder:
    """What one model's maps say and where they lie."""

    reference: str
    card: Card
    question: Question
    images: ImageSet
    folder: Path
    num_figures: int
    views: tuple[ClassSummary, ...]
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
    ranks: Ranks | None = None,
    show_progress: bool = False,
) -> list[MapFolder]:
    """Draw the maps of each model into `attributions/<dataset>/<model>/`, the dataset being that of the images.

    A folder holds `<class>_<i>.png` (the i-th image of a class: image, map, overlay), `maps.npz` (ids,
    labels, targets, logits and signed attributions of the images that have a figure), `classes/<class>.png`
    and `card.json`. It appears whole, in place of an older one. Memory: the arrays of maps.npz, and the maps
    of one class.

    Args:
        question: Its `samples` are what all models are asked about; without them each gets its own.
        data_root: Where datasets are found; the split `samples` needs none.
        ranks: This process among those that share the work, and its device; None is the only one, on the CPU.
            Classes are dealt to the ranks in turn, so that each is looked at in the batches that one process
            would take. Rank 0 alone writes.

    Returns:
        An answer for each model, on rank 0; nothing on the others.

    Raises:
        ValueError: If a reference, target, split or set of samples does not exist, or a model lacks a class of the
            labels whose scores are asked for.
    """
    question = question or Question()
    entries = {(entry := store.resolve(reference)).reference: entry for reference in references}
    for entry in entries.values():
        if entry.card is None:
            raise ValueError(entry.error)
        if question.targets not in TARGETS:
            class_index(entry.card, question.targets)
    answers = [
        _answer(store, entry, question, data_root, ranks or Ranks(), show_progress) for entry in entries.values()
    ]
    return [answer for answer in answers if answer is not None]


def _answer(
    store: Store, entry: ModelEntry, question: Question, data_root: Path | None, ranks: Ranks, show_progress: bool
) -> MapFolder | None:
    classifier, card = entry.load()
    images = images_of(store, card, question.split, question.samples, question.num, data_root)
    if question.targets == "label":
        images.check_labels(card)
    question = replace(question, samples=images.name)  # `NAME` means the newest today, `NAME:vK` always the same
    classifier.to(ranks.device)
    final = store.attributions_root / slug(images.dataset) / folder_name(entry, question)

    request = (question.targets, images.classes, question.score, question.method, question.precision)
    pixels = images.split.images

    def sheet_of(label: int, rows: Int64[np.ndarray, "n"]) -> _Sheet:
        view = explain_some(pixels[rows], images.split.labels[rows])
        return _sheet(view, label, rows, question, images)

    where: AbstractContextManager[Path | None] = whole_folder(final.parent) if ranks.is_main else nullcontext()
    one_model = ImageExplainer(entry.reference, classifier, card, pixels.shape[1:], len(pixels), *request)
    with where as folder, one_model as explain_some:
        atlas = _Atlas(folder)
        _fill(atlas, sheet_of, ranks, _turns(images.split, ranks, entry.reference, show_progress))
        with ranks.raise_on_all_ranks():
            if folder is None:
                return None
            num_figures = atlas.save_maps()
            write_json(folder / "card.json", _card(entry.reference, card, question, images, atlas.views))
            swap_folder(folder, final)
    ids = np.array(images.split.ids)
    warnings = (*images.warnings, *_rounding(entry.reference, classifier, card, question, images))
    return MapFolder(entry.reference, card, question, images, final, num_figures, tuple(atlas.views), ids, warnings)


def _fill(
    atlas: "_Atlas",
    ask: "Callable[[int, Int64[np.ndarray, 'n']], _Sheet]",
    ranks: Ranks,
    turns: Iterator[tuple[int, Int64[np.ndarray, "n"]] | None],
) -> None:
    """Draw the classes, one for each rank at a time, and let the atlas keep what all ranks drew."""
    for own in turns:
        with ranks.raise_on_all_ranks():
            sheet = ask(*own) if own is not None else None
        sheets = ranks.gather(sheet)
        with ranks.raise_on_all_ranks():
            atlas.keep(sheets)


def _rounding(
    reference: str, classifier: Classifier, card: Card, question: Question, images: ImageSet
) -> Iterator[str]:
    """Say how far the first maps of a faster precision are from those in float32."""
    if question.precision == "fp32":
        return
    few = images.split.head(ROUNDED)
    asked = (few.images, question.targets, few.labels, images.classes, question.score, question.method)
    maps = [
        explain_images(reference, classifier, card, *asked, one).attribution for one in ("fp32", question.precision)
    ]
    (cosines, ranks) = rounding_error(*maps)
    yield (
        f"the maps of {reference} are rounded ({question.precision}): {_typical(cosines)} to float32's and"
        f" {_typical(ranks, 'rank correlation')}, over {len(few)} images"
    )


def _typical(values: Float64[np.ndarray, "n"], name: str = "cosine") -> str:
    known = values[~np.isnan(values)]
    return f"{name} {np.median(known):.3f} (lowest {known.min():.3f})" if len(known) else f"{name} unknown"


def _turns(
    split: Split, ranks: Ranks, title: str, show_progress: bool
) -> Iterator[tuple[int, Int64[np.ndarray, "n"]] | None]:
    """Go through the classes that have images, one for each rank at a time; give this rank's class and its rows.

    The last turn may have no class for the last ranks. A terminal gets a progress bar.
    """
    from rich.console import Console
    from rich.progress import track

    labels = np.asarray(split.labels)
    present = np.unique(labels).tolist()
    console = Console(stderr=True)
    hidden = not (show_progress and ranks.is_main and console.is_terminal)
    starts = range(0, len(present), ranks.world)
    for start in track(starts, title, console=console, transient=True, disable=hidden):
        own = present[start + ranks.rank : start + ranks.rank + 1]
        yield (own[0], np.flatnonzero(labels == own[0]).astype(np.int64)) if own else None


@dataclass(frozen=True, eq=False)
class _Sheet:
    """What one class adds to the tree: its files, its raw maps and its numbers."""

    pictures: dict[str, bytes]
    """PNG files by their path in the answer's folder."""
    raw: dict[str, np.ndarray]
    view: ClassSummary


def _sheet(view: Explanation, label: int, rows: Int64[np.ndarray, "n"], question: Question, images: ImageSet) -> _Sheet:
    """Draw what a model sees in the images of one class."""
    split, stem = images.split, file_stems(images.classes)[label]
    few = rows[: question.per_class] if question.per_class else rows
    pictures = {}
    for i, row in enumerate(few.tolist()):
        where = f"Image {split.ids[row]} ({question.split})."
        figure = figures.image_figure(view, i, images.classes[label], question.reduction, where)
        pictures[f"{stem}_{i}.png"] = colors.png_bytes(figure)
    masks = None if split.masks is None else split.masks[rows]
    summed = summarize_class(view, rows, images.classes[label], masks, reduction=question.reduction)
    page = figures.class_page([summed], images.dataset, question.targets)
    pictures[f"classes/{stem}.png"] = colors.png_bytes(page)
    kept = {name: getattr(view, name)[: len(few)].copy() for name in ("targets", "logits", "attribution")}
    return _Sheet(pictures, {"ids": split.ids[few], "labels": split.labels[few], **kept}, summed)


@dataclass
class _Atlas:
    """The sheets of one answer, put into a folder class by class; on ranks that write nothing there is none."""

    folder: Path | None
    views: list[ClassSummary] = field(default_factory=list)
    raw: list[dict[str, np.ndarray]] = field(default_factory=list)

    def keep(self, sheets: Sequence[_Sheet | None]) -> None:
        """Write the pictures of some classes, and remember their maps and numbers."""
        for sheet in sheets:
            if sheet is None or self.folder is None:
                continue
            for name, content in sheet.pictures.items():
                file = self.folder / name
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(content)
            self.raw.append(sheet.raw)
            self.views.append(sheet.view)

    def save_maps(self) -> int:
        """Write the raw maps of all images that have a figure, and return their number."""
        arrays: dict[str, Any] = {name: np.concatenate([part[name] for part in self.raw]) for name in self.raw[0]}
        assert self.folder is not None
        np.savez(self.folder / "maps.npz", **arrays)
        return len(arrays["ids"])


def folder_name(entry: ModelEntry, question: Question) -> str:
    """Name an answer's folder: `model` for best weights and the default question, else `model@v3-pred`, …"""
    asked = asdict(question)
    names = ("score", "method", "split", "samples", "reduction", "precision")
    told = [asked[name] for name in names if asked[name] != _DEFAULTS[name]]
    if "best" in entry.aliases and question.targets == "label" and not told:
        return entry.name
    return "-".join([f"{entry.name}@v{entry.version}", *file_stems([question.targets]), *map(_stem, told)])


def _stem(word: str) -> str:
    return file_stems([word])[0]


_DEFAULTS = {one.name: one.default for one in fields(Question)}


def _card(
    reference: str, card: Card, question: Question, images: ImageSet, views: Sequence[ClassSummary]
) -> dict[str, Any]:
    numbers = ("num", "num_zero", "accuracy", "center_bias", "mass_on_mask", "mask_share")
    facts = {view.class_name: {name: _finite(getattr(view, name)) for name in numbers} for view in views}
    about = {"model": reference, "sha256": card.sha256, "dataset": card.dataset, **asdict(question)}
    return {
        **about,
        "unit": unit(question.score, question.method),
        "classes": images.classes,
        "images": {"dataset": images.dataset, "fingerprint": images.fingerprint, "source": images.source},
        "facts": facts,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value


def side_by_side(answers: Sequence[MapFolder]) -> list[Path]:
    """Draw a page per class with all models that answered for the same images; return the folders, `a+b`."""
    groups: dict[tuple[Any, ...], list[MapFolder]] = {}
    for answer in answers:
        names = tuple(view.class_name for view in answer.views)
        key = (answer.images.dataset, answer.images.source, names, answer.ids.tobytes())
        groups.setdefault(key, []).append(answer)
    return [_draw_together(group) for group in groups.values() if len(group) > 1]


def _draw_together(group: Sequence[MapFolder]) -> Path:
    final = group[0].folder.parent / joint_name([answer.folder.name for answer in group])
    stems = file_stems([view.class_name for view in group[0].views])
    with whole_folder(final.parent) as folder:
        for stem, views in zip(stems, zip(*(answer.views for answer in group), strict=True), strict=True):
            page = figures.class_page(views, group[0].images.dataset, group[0].question.targets)
            (folder / f"{stem}.png").write_bytes(colors.png_bytes(page))
        swap_folder(folder, final)
    return final


def joint_name(names: Sequence[str]) -> str:
    """Join folder names by `+`, which no model's name has; many become their number and a digest."""
    joint = "+".join(names)
    if len(joint) <= 120:
        return joint
    return f"{len(names)}-models+{hashlib.sha256(joint.encode()).hexdigest()[:8]}"
