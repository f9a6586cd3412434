"""`python -m demo.film_gif RUN RUN … --output=film.gif`: draw the films of runs side by side as an animated GIF."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from cvx.attribution import rescale
from cvx.data.transforms import fit_image
from cvx.plotting.colors import colorize, enlarge, gray_or_rgb
from cvx.plotting.labels import CLIP, percent
from demo.backend.run_history import FilmFrames, RecordedRun, RunHistory
from demo.backend.service import ModelService

GAP, LINE = 6, 22
PAPER, INK, SOFT = (255, 255, 255), (24, 24, 27), (91, 91, 102)
LAST_MS = 2500
"""How long the last frame stays."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilmFlags:
    """Draw the films of runs of one dataset as an animated GIF: a column an image, a row a run."""

    runs: tuple[str, ...]
    """Names of runs, as they lie below `runs/`; the first decides the order."""
    output: Path = Path("film.gif")
    images: tuple[int, ...] = (0, 1, 2, 3)
    """Which of the film's images."""
    artifacts: str = dataclasses.field(default_factory=lambda: os.environ.get("CVX_ARTIFACTS") or "artifacts")
    """The store."""
    side: int = 128
    """Pixels of a map's side, at least."""
    every: int = 1
    """Show one epoch in so many; the first and the last are always there."""
    colors: int = 64
    """Of the picture, at most 256: fewer make a smaller file."""
    ms: int = 220
    """Milliseconds of a frame."""

    def __post_init__(self) -> None:
        if self.every < 1 or not 2 <= self.colors <= 256:
            raise ValueError(f"every must be 1 or more and colors in 2…256, got {self.every} and {self.colors}")


def frames_of(root: Path, names: Sequence[str], images: Sequence[int], side: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Draw one frame per epoch; a run without a map of an epoch shows its newest before. A run's maps share a scale.

    Raises:
        ValueError: If a run is not there or has no film, or the runs are not of one dataset.
    """
    history, service = RunHistory(root), ModelService(root)
    runs = history.run_list().named(names)
    if missing := sorted(set(names) - {run.name for run in runs}):
        known = ", ".join(run.name for run in history.run_list().runs) or "none"
        raise ValueError(f"no run {missing[0]!r} in {root}; known: {known}")
    if len({run.dataset for run in runs}) > 1:
        raise ValueError("the runs are of different datasets; their films have no image in common")
    dataset_entry = service.catalog().datasets.get(runs[0].dataset)
    if dataset_entry is None or dataset_entry.gallery is None:
        raise ValueError(f"no samples of {runs[0].dataset} in {root}, so there are no images to put above the maps")
    films = [history.film(run, "max") for run in runs]
    rows = [_row(run, film, images, side) for run, film in zip(runs, films, strict=True)]
    tops = [enlarge(gray_or_rgb(_fitted(dataset_entry.gallery.images[i], films[0])), side) for i in images]
    epochs = sorted({epoch for film in films for epoch in film.epochs})
    return [_frame(epoch, epochs[-1], tops, films, rows, history, runs) for epoch in epochs]


def _fitted(image: UInt8[np.ndarray, "h w c"], film: FilmFrames) -> UInt8[np.ndarray, "h w c"]:
    """Fit an image to the maps of a film, which older runs have at the size that they were trained at."""
    return fit_image(np.array(image), film.heatmaps.shape[-1])


def _row(
    run: RecordedRun, film: FilmFrames, images: Sequence[int], side: int
) -> list[list[UInt8[np.ndarray, "h w 3"]]]:
    """Draw a run's maps by frame and image, each image's on one scale through all epochs."""
    num = film.heatmaps.shape[1]
    if wrong := [i for i in images if not 0 <= i < num]:
        raise ValueError(f"the film of {run.name} has the images 0…{num - 1}, got {wrong[0]}")
    scaled = [rescale(list(film.heatmaps[:, i]), "shared", CLIP) for i in images]
    return [[enlarge(colorize(maps[at].values), side) for maps in scaled] for at in range(len(film.epochs))]


def _frame(
    epoch: int,
    last: int,
    tops: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    films: Sequence[FilmFrames],
    rows: Sequence[Sequence[Sequence[UInt8[np.ndarray, "_ _ 3"]]]],
    history: RunHistory,
    runs: Sequence[RecordedRun],
) -> UInt8[np.ndarray, "h w 3"]:
    lines = [(f"epoch {epoch} of {last}", tops)]
    for run, film, row in zip(runs, films, rows, strict=True):
        at = max(0, int(np.searchsorted(film.epochs, epoch, "right")) - 1)
        accuracy = _accuracy(history, run, film.epochs[at])
        ended = " (ended)" if film.epochs[at] < epoch else ""
        lines.append((f"{run.model}{accuracy}{ended}", row[at]))
    blocks = [_block(words, tiles) for words, tiles in lines]
    return np.pad(np.concatenate(blocks), ((GAP, 0), (GAP, 0), (0, 0)), constant_values=255)


def _accuracy(history: RunHistory, run: RecordedRun, epoch: int) -> str:
    found = [row["val/acc1"] for row in history.rows(run) if row.get("epoch") == epoch and "val/acc1" in row]
    return f" · val {percent(found[-1])}" if found else ""


def _block(words: str, tiles: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> UInt8[np.ndarray, "h w 3"]:
    body = np.concatenate([np.pad(t, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for t in tiles], axis=1)
    head = Image.new("RGB", (body.shape[1], LINE), PAPER)
    draw, color = ImageDraw.Draw(head), INK if words.startswith("epoch") else SOFT
    draw.text((0, LINE - 6), words, fill=color, font=ImageFont.load_default(15), anchor="ls")
    return np.concatenate([np.asarray(head), body])


def write(frames: Sequence[UInt8[np.ndarray, "_ _ 3"]], output: Path, ms: int, colors: int) -> None:
    """Write frames as a GIF that plays for ever, all in the same colors, so that little changes between them."""
    found = Image.fromarray(np.concatenate([frames[0], frames[-1]])).quantize(colors - 1, dither=Image.Dither.NONE)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*PAPER, *(found.getpalette() or [])[: 3 * (colors - 1)]])
    drawn = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [ms] * (len(drawn) - 1) + [LAST_MS]
    drawn[0].save(output, save_all=True, append_images=drawn[1:], duration=times, loop=0, optimize=False)


def main() -> None:
    """Draw and write."""
    import tyro

    try:
        flags = tyro.cli(FilmFlags, prog="python -m demo.film_gif", config=(tyro.conf.PositionalRequiredArgs,))
        frames = frames_of(Path(flags.artifacts), flags.runs, flags.images, flags.side)
        frames = [*frames[: -1 : flags.every], frames[-1]]
        write(frames, flags.output, flags.ms, flags.colors)
    except (ValueError, OSError) as error:
        sys.exit(f"film_gif: {error}")
    print(f"{flags.output}: {len(frames)} frames, {flags.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
