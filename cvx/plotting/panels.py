"""Compose images, maps, captions and color bars into one picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw

from cvx.plotting.colors import INK, MUTED, SIGNS, colorize, enlarge, gray_or_rgb, overlay
from cvx.plotting.fonts import Letters, letters
from cvx.plotting.labels import number


def panel(
    image: UInt8[np.ndarray, "h w c"],
    values: Float32[np.ndarray, "h w"],
    *,
    title: Sequence[str],
    notes: Sequence[str] = (),
    limit: float,
    unit: str,
    signed: bool = False,
    opacity: float = 0.6,
    min_side: int = 192,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw image, map and overlay side by side under a title, with a color bar.

    Args:
        values: The map in [0, 1], or [-1, 1] if signed.
        title: Lines above the images; the first is bold.
        notes: Lines below them, in gray.
        limit: What the value 1 stands for, in `unit`.
    """
    tiles = {"image": gray_or_rgb(image), "map": colorize(values, signed)}
    tiles["overlay"] = overlay(image, values, signed, opacity)
    columns = [_stack([enlarge(tile, min_side), _line(name, 12, MUTED)], 4) for name, tile in tiles.items()]
    side = enlarge(image, min_side).shape[0]
    body = _row([*columns, _color_bar(side, limit, unit, signed)], 10)
    width = body.shape[1]
    head = [_line(text, 17 if i == 0 else 13, INK, width, bold=i == 0) for i, text in enumerate(title)]
    foot = [piece for text in notes for piece in _paragraph(text, 11, MUTED, width)]
    return _frame(_stack([_stack(head, 2), body, *_stacked(foot, 1)], 8))


@dataclass(frozen=True, eq=False)
class ClassRow:
    """One model's part of a class figure; maps are in [0, 1], or [-1, 1] if signed."""

    title: str
    facts: Sequence[str]
    """Numbers in words, a line or two each, written beside the mean map."""
    images: Sequence[UInt8[np.ndarray, "_ _ _"]]
    maps: Sequence[Float32[np.ndarray, "_ _"]]
    captions: Sequence[str]
    mean_map: Float32[np.ndarray, "_ _"]
    limit: float
    """What the value 1 of the mean map stands for, in `unit` of the figure."""


def class_figure(
    rows: Sequence[ClassRow],
    *,
    title: Sequence[str],
    notes: Sequence[str] = (),
    unit: str,
    signed: bool = False,
    min_side: int = 96,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a block per model: exemplars of a class, their maps, the mean map and its numbers."""
    side = max(enlarge(image, min_side).shape[0] for row in rows for image in row.images)
    blocks = [_class_block(row, side, unit, signed) for row in rows]
    width = max(block.shape[1] for block in blocks)
    head = [_line(text, 18 if i == 0 else 13, INK, width, bold=i == 0) for i, text in enumerate(title)]
    foot = [piece for text in notes for piece in _paragraph(text, 11, MUTED, width)]
    return _frame(_stack([_stack(head, 2), *blocks, *_stacked(foot, 1)], 16))


def _class_block(row: ClassRow, side: int, unit: str, signed: bool) -> UInt8[np.ndarray, "_ _ 3"]:
    columns = []
    for image, values, caption in zip(row.images, row.maps, row.captions, strict=True):
        tiles = [_cell(gray_or_rgb(image), side), _cell(colorize(values, signed), side)]
        columns.append(_stack([*tiles, _line(caption, 11, MUTED, side)], 4))
    mean = _cell(colorize(row.mean_map, signed), 2 * side + 4)
    bar = _color_bar(mean.shape[0], row.limit, unit, signed)
    mean_column = _stack([_row([mean, bar], 10), _line("mean map", 11, MUTED)], 4)
    facts = _stack([_stack(_paragraph(fact, 12, INK, 190), 1) for fact in row.facts], 8)
    body = _row([_row(columns, 4), mean_column, facts], 20)
    return _stack([_line(row.title, 13, INK, body.shape[1], bold=True), body], 6)


def _blank(height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    return np.full((height, width, 3), 255, np.uint8)


def _stack(pieces: Sequence[UInt8[np.ndarray, "_ _ 3"]], gap: int) -> UInt8[np.ndarray, "h w 3"]:
    heights = [piece.shape[0] for piece in pieces]
    canvas = _blank(sum(heights) + gap * (len(pieces) - 1), max(piece.shape[1] for piece in pieces))
    top = 0
    for piece, height in zip(pieces, heights, strict=True):
        canvas[top : top + height, : piece.shape[1]] = piece
        top += height + gap
    return canvas


def _stacked(pieces: Sequence[UInt8[np.ndarray, "_ _ 3"]], gap: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Stack pieces, of which there may be none."""
    return [_stack(pieces, gap)] if pieces else []


def _row(pieces: Sequence[UInt8[np.ndarray, "_ _ 3"]], gap: int) -> UInt8[np.ndarray, "h w 3"]:
    return _stack([piece.transpose(1, 0, 2) for piece in pieces], gap).transpose(1, 0, 2)


def _frame(piece: UInt8[np.ndarray, "_ _ 3"], margin: int = 14) -> UInt8[np.ndarray, "h w 3"]:
    return np.pad(piece, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)


def _cell(tile: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """Center a tile, enlarged by the largest whole factor that fits, in a square cell."""
    factor = max(1, side // max(tile.shape[:2]))
    tile = tile.repeat(factor, axis=0).repeat(factor, axis=1)
    rest = [max(0, side - length) for length in tile.shape[:2]]
    margins = [(length // 2, length - length // 2) for length in rest]
    return np.pad(tile, (*margins, (0, 0)), constant_values=255)


def _color_bar(height: int, limit: float, unit: str, signed: bool) -> UInt8[np.ndarray, "_ _ 3"]:
    """Draw the scale from 0 (or minus the limit) up to the limit, with the unit along it."""
    ramp = np.linspace(1, -1 if signed else 0, height, dtype=np.float32)[:, None].repeat(14, axis=1)
    values = [limit, limit / 2, 0.0, *([-limit / 2, -limit] if signed else [])]
    labels = [_line(number(value), 11, INK) for value in values]
    scale = _blank(height, max(label.shape[1] for label in labels) + 6)
    for i, label in enumerate(labels):
        at = round(i * (height - 1) / (len(labels) - 1))
        scale[at, :4] = INK
        top = min(max(0, at - label.shape[0] // 2), height - label.shape[0])
        scale[top : top + label.shape[0], 6 : 6 + label.shape[1]] = label
    lines = [*_paragraph(unit, 11, MUTED, height), *(_paragraph(SIGNS, 11, MUTED, height) if signed else [])]
    name = np.rot90(_stack(lines, 1))
    above = max(0, height - name.shape[0]) // 2
    return _row([colorize(ramp, signed), scale, np.pad(name, ((above, 0), (0, 0), (0, 0)), constant_values=255)], 4)


def _line(
    text: str, size: int, color: tuple[int, int, int], width: int = 0, bold: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
    """Write one line, shortened with an ellipsis to the width if one is given."""
    font = letters(size, bold)
    text = shorten(" ".join(text.split()), font, width) if width else " ".join(text.split())
    canvas = Image.fromarray(_blank(round(size * 1.35), max(1, math.ceil(font.getlength(text)))))
    font.draw(ImageDraw.Draw(canvas), (0, round(size * 1.05)), text, color)
    return np.asarray(canvas)


def shorten(text: str, font: Letters, width: int) -> str:
    """Cut text so that it fits the width with an ellipsis; text that fits stays whole."""
    if font.getlength(text) <= width:
        return text
    fitting = (text[:k].rstrip() + "…" for k in range(len(text) - 1, 0, -1))
    return next((cut for cut in fitting if font.getlength(cut) <= width), "…")


def _paragraph(text: str, size: int, color: tuple[int, int, int], width: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Write text in as many lines as its words need."""
    font, lines = letters(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_line(line, size, color, width) for line in lines]
