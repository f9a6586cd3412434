"""Arrays to crisp RGB pixels, PNG files and figures.

Every image is enlarged by a whole factor with nearest neighbors, so what is seen is what was computed.
Magnitudes are drawn in magma; signed maps in red (raises the score), near-white (zero, always) and blue
(lowers it). Both can be read by color-blind people.
"""

import functools
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw

from cvx.lettering import Letters, letters

INK, MUTED = (33, 37, 41), (104, 112, 120)
SIGNS = "red raises the score, blue lowers it"


def gray_or_rgb(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """Show a 1-channel image in gray and a 3-channel image as it is."""
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def enlarge(image: UInt8[np.ndarray, "h w c"], min_side: int) -> UInt8[np.ndarray, "height width c"]:
    """Repeat pixels by the smallest whole factor that makes the short side at least `min_side` long."""
    factor = max(1, math.ceil(min_side / min(image.shape[:2])))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def colorize(values: Float32[np.ndarray, "h w"], signed: bool = False) -> UInt8[np.ndarray, "h w 3"]:
    """Color values in [0, 1] in magma or, signed, in [-1, 1] in blue, white, red; beyond, like the ends."""
    table = _table(signed)
    unit = (values + 1) / 2 if signed else values
    return table[np.rint(np.clip(unit, 0, 1) * (len(table) - 1)).astype(int)]


@functools.cache
def _table(signed: bool) -> UInt8[np.ndarray, "entries 3"]:
    """Look colors up once; an odd number of entries gives the signed map's zero one of its own."""
    import matplotlib

    colors = matplotlib.colormaps["RdBu_r"].resampled(257) if signed else matplotlib.colormaps["magma"]
    return np.rint(colors(np.arange(colors.N))[:, :3] * 255).astype(np.uint8)


def class_colors(num: int) -> list[str]:
    """Return a color per class, readable on white and on black: ten that differ well, then a wheel."""
    import matplotlib as mpl
    from matplotlib.colors import hsv_to_rgb, to_hex

    if num <= 10:
        return [to_hex(color) for color in mpl.colormaps["tab10"].colors[:num]]  # type: ignore[attr-defined]
    wheel = [(i / num, 0.75 if i % 2 else 0.5, 0.6 if i % 3 else 0.85) for i in range(num)]
    return [to_hex(color) for color in hsv_to_rgb(np.array(wheel))]


def overlay(
    image: UInt8[np.ndarray, "h w c"],
    values: Float32[np.ndarray, "h w"],
    signed: bool = False,
    opacity: float = 0.6,
) -> UInt8[np.ndarray, "h w 3"]:
    """Lay a colored map over the image in gray: opacity 0 shows the image alone, 1 the map alone."""
    gray = np.asarray(Image.fromarray(gray_or_rgb(image)).convert("L"), dtype=np.float32)[..., None]
    return np.rint(gray * (1 - opacity) + colorize(values, signed) * np.float32(opacity)).astype(np.uint8)


def png_bytes(image: UInt8[np.ndarray, "h w c"]) -> bytes:
    """Encode an image without loss."""
    buffer = io.BytesIO()
    Image.fromarray(gray_or_rgb(image)).save(buffer, "png", optimize=False)
    return buffer.getvalue()


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


# A figure is made of pieces, RGB arrays on white that are put beside or above each other.


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


def number(value: float) -> str:
    """Write a number with three significant digits, shortly: 0.0123, 4.56, 1.2e-05."""
    return "0" if value == 0 else f"{value:.3g}".replace("-", "\N{MINUS SIGN}", 1 if value < 0 else 0)


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
