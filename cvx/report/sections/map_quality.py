"""Report sections on map quality: localization, faithfulness, randomization and stability, beside their controls."""

import shlex
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from cvx import comparison
from cvx.comparison import AGREEMENT_WORDS, MAPS, Faithfulness, Options, Sanity, tables
from cvx.report import charts
from cvx.report.blocks import Block, Command, Figure, Figures, Heading, Table, Text
from cvx.report.snapshot import DatasetResults, StoreSnapshot, placeless

TESTS = {
    "deletion_mean": "Deletion (mean)",
    "insertion_blur": "Insertion (into blur)",
    "road_most": "ROAD, most important first",
}
"""The removal tests that are drawn; the table has all."""
MAP_WORDS = {
    "own": "the model's own maps",
    "random": "random maps",
    "sobel": "edges of the image",
    "blurred": "its own maps, blurred",
    "randomized_model": "maps of an untrained model",
}
Found = TypeVar("Found")


def localization(study: StoreSnapshot) -> list[Block]:
    """Score maps on masks where masks are known, beside chance, and epoch by epoch."""
    blocks: list[Block] = []
    for part in study.parts:
        if part.lookers and part.samples is not None and part.samples.split.masks is not None:
            blocks += [Heading(part.dataset), *_on_masks(study, part), *_mask_curves(part)]
    return blocks


def _on_masks(study: StoreSnapshot, part: DatasetResults) -> list[Block]:
    found, trouble = _ask(study, part, comparison.localization, Options(num=study.num))
    if found is None:
        return trouble
    models = range(len(found.references))
    rows = [(found.references[i], *(found.interval(name, i).text() for name in found.names)) for i in models]
    rows.append(("chance", *(comparison.decimal(found.chance(name, 0)) for name in found.names)))
    words = "; ".join(f"{name}: {comparison.TABLE_WORDS[name]}" for name in found.names)
    caption = f"Mean and 95 % bootstrap interval over up to {study.num} images. {words}."
    return [Table(("model", *found.names), tuple(rows), caption=caption)]


def _mask_curves(part: DatasetResults) -> list[Block]:
    """Draw where the maps of the film's images lie, after each epoch."""
    told = {"mass": "Share of the map that lies on the mask", "pointing": "Strongest pixel on the mask"}
    runs = [(name, settling) for name, past in part.judged() if (settling := _settling(part, past)) is not None]
    runs = [(name, settling) for name, settling in runs if settling.on_mask]
    if not runs:
        return []
    figures = []
    for measure, title in told.items():
        lines = [
            charts.PlotLine(settling.epochs, [float(np.nanmean(frame)) for frame in settling.on_mask[measure]], i)
            for i, (_, settling) in enumerate(runs)
        ]
        chance = part.mask_share()
        lines.append(charts.PlotLine([0, max(settling.epochs[-1] for _, settling in runs)], [chance, chance], -1))
        drawn = charts.lines(lines, "epoch", f"mask-{part.dataset}-{measure}", y_range=(0, 1), size=(4.2, 2.5))
        figures.append(Figure(title, drawn))
    names = [*(name for name, _ in runs), "chance: the mask's share of the image"]
    legend = tuple((charts.css_color(i), name) for i, name in zip([*range(len(runs)), -1], names, strict=True))
    return [Heading("By epoch", "maps of the film's images"), Figures(tuple(figures), legend, layout="pairs")]


def _settling(part: DatasetResults, past: Any) -> comparison.MapConvergence | None:
    try:
        return part.settling(past)
    except (ValueError, OSError):  # the film's section names it
        return None


def faithfulness(study: StoreSnapshot) -> list[Block]:
    """Draw what models say while pixels go or come, in their maps' order and in the controls'."""
    return _of_parts(study, "faithfulness", comparison.faithfulness, _removal)


def _removal(part: DatasetResults, found: Faithfulness) -> list[Block]:
    blocks: list[Block] = [Text(found.verdict(i), "finding") for i in range(len(found.references))]
    figures = tuple(
        Figure(
            f"{found.columns[i]} · {title}", _removal_curves(part, found, i, test), f"{found.better(test)} is better"
        )
        for i in range(len(found.references))
        for test, title in TESTS.items()
    )
    legend = tuple((charts.css_color(_map_color(k)), MAP_WORDS[name]) for k, name in enumerate(MAPS))
    head, rows = tables.faithfulness_table(found)
    caption = (
        "Area under the curve of the explained class's probability, mean and 95 % bootstrap interval over"
        f" {found.options.num} images; ROAD imputes removed pixels from their neighbors."
    )
    return [*blocks, Figures(figures, legend), Table(tuple(head), _tuples(rows), num_names=3, caption=caption)]


def _removal_curves(part: DatasetResults, found: Faithfulness, i: int, test: str) -> Any:
    lines = [
        charts.PlotLine(100 * found.shares(test), 100 * found.curve(i, test, name), _map_color(k))
        for k, name in reversed(list(enumerate(MAPS)))
    ]
    verb = "put in" if test.startswith("insertion") else "removed"
    salt = f"removal-{part.dataset}-{i}-{test}"
    return charts.lines(lines, f"% of pixels {verb}", salt, y_range=(0, 100), y_label="% probability")


def _map_color(k: int) -> int:
    """Give the model's own maps the page's first color and noise gray."""
    return {0: 0, 1: -1}.get(k, k - 1)


def sanity(study: StoreSnapshot) -> list[Block]:
    """Draw what is left of the maps when blocks are randomized from the output, and give the verdict."""
    return _of_parts(study, "sanity", comparison.sanity, _randomized)


def _randomized(part: DatasetResults, found: Sanity) -> list[Block]:
    blocks: list[Block] = [Text(found.verdict(i), "finding") for i in range(len(found.references))]
    figures = []
    for name in found.names:
        lines = []
        for i in range(len(found.references)):
            means = [1.0, *(found.after(i, name, block).mean for block in found.blocks(i))]
            lines.append(charts.PlotLine(np.linspace(0, 100, len(means)), means, i))
            lines.append(charts.PlotLine([103, 110], [found.floor(i, name, "other_image").mean] * 2, i))
        drawn = charts.lines(lines, "% of blocks randomized", f"sanity-{part.dataset}-{name}", y_range=(-0.25, 1))
        figures.append(Figure(AGREEMENT_WORDS[name][0], drawn, "Short lines: its own maps of other images."))
    legend = tuple((charts.css_color(i), name) for i, name in enumerate(found.columns))
    head, rows = tables.sanity_table(found)
    caption = (
        "Likeness to the trained model's maps with everything from the output down to this block at random weights;"
        f" mean and 95 % bootstrap interval over {found.options.num} images."
    )
    return [*blocks, Figures(tuple(figures), legend), Table(tuple(head), _tuples(rows), num_names=2, caption=caption)]


def stability(study: StoreSnapshot) -> list[Block]:
    """Tell how much noise moves the maps, and how much training still did."""
    return _of_parts(study, "stability", comparison.stability, _steadiness)


def _steadiness(part: DatasetResults, found: comparison.ModelTable) -> list[Block]:
    settled = {past.run.name: _settling(part, past) for _, past in part.judged()}
    rows = []
    for i, one in enumerate(part.lookers):
        settling = settled.get(one.card.run)
        rows.append((found.references[i], found.interval("max_sensitivity", i).text(), *_epochs(settling)))
    columns = (
        "model",
        "max-sensitivity",
        "like the final maps: untrained",
        "when accuracy settled",
        "epoch before last",
    )
    caption = (
        f"Max-sensitivity: {comparison.TABLE_WORDS['max_sensitivity']}, mean over {found.options.num} images. Likeness:"
        " Spearman of magnitudes over the film's images; accuracy has settled when it stays within a tenth of its way"
        " to the end."
    )
    return [Table(columns, tuple(rows), caption=caption)]


def _epochs(settling: comparison.MapConvergence | None) -> tuple[str, str, str]:
    if settling is None:
        return ("–", "–", "–")
    frame = settling.settled_at()
    then = f"{settling.interval('spearman', frame).text()} (epoch {settling.epochs[frame]})" if frame >= 0 else "–"
    return settling.interval("spearman", 0).text(), then, settling.interval("spearman", len(settling.epochs) - 2).text()


def _of_parts(
    study: StoreSnapshot, kind: str, measure: Callable[..., Found], draw: Callable[[DatasetResults, Found], list[Block]]
) -> list[Block]:
    blocks: list[Block] = []
    for part in study.parts:
        if not part.lookers:
            continue
        afforded = study.often[kind, part.dataset]
        blocks.append(Heading(part.dataset))
        if afforded.options is None:
            blocks += _left_out(part, kind, afforded.seconds)
            continue
        found, trouble = _ask(study, part, measure, afforded.options)
        blocks += trouble if found is None else draw(part, found)
    return blocks or [Text("No model of this store can look at its samples.", "note")]


def _left_out(part: DatasetResults, kind: str, seconds: float) -> list[Block]:
    names = [one.entry.reference for one in part.lookers]
    told = (
        f"Not computed for this page: it would take about {max(1, round(seconds))} s here. This computes and keeps it:"
    )
    return [Text(told, "note"), Command(shlex.join(["python", "-m", "cvx", "compare", *names, f"--measures={kind}"]))]


def _ask(
    study: StoreSnapshot, part: DatasetResults, measure: Callable[..., Found], options: Options
) -> tuple[Found | None, list[Block]]:
    try:
        return measure(study.store, part.models, options, study.runtime), []
    except (ValueError, OSError) as error:
        return None, [Text(placeless(str(error), study.store), "note")]


def _tuples(rows: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row) for row in rows)
