"""Draw what a run shows on W&B as PNG files: the same records give the same bytes, live and when published later."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8
from PIL import Image, ImageDraw

from cvx.attribution import rescale, to_heatmap
from cvx.data.transforms import fit_image
from cvx.metrics.classification import CalibrationBin, softmax
from cvx.plotting.colors import INK, MUTED, class_colors, colorize, enlarge, gray_or_rgb, png_bytes
from cvx.plotting.fonts import letters
from cvx.plotting.labels import CLIP
from cvx.plotting.panels import shorten

TILE = 64
"""Least side of a tile of the film: W&B smooths what it enlarges itself."""
SIDE = 512
NUM_NAMES = 20
"""Classes whose names fit beside a plot."""


def film_tiles(
    images: UInt8[np.ndarray, "n h w c"], attribution: Float32[np.ndarray, "n c2 h2 w2"]
) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Put each image beside its gradient map: magnitude, on the map's own scale."""
    scaled = rescale(list(to_heatmap(attribution)), mode="each", clip=CLIP)
    pairs = zip([fit_image(np.asarray(image), attribution.shape[-1]) for image in images], scaled, strict=True)
    return [np.hstack([enlarge(gray_or_rgb(image), TILE), enlarge(colorize(one.values), TILE)]) for image, one in pairs]


def film_captions(
    labels: Int64[np.ndarray, "n"],
    targets: Int64[np.ndarray, "n"],
    logits: Float[np.ndarray, "n k"],
    classes: Sequence[str],
) -> list[str]:
    """Say of each map what the image is, what the model takes it for, and whose score was explained."""
    preds = logits.argmax(axis=1)
    probs = softmax(logits.astype(np.float64))[np.arange(len(preds)), preds]
    return [
        f"{'✓' if pred == label else '✗'} label {classes[label]} · predicted {classes[pred]} {prob:.0%}"
        f" · gradient of the logit of {classes[target]}"
        for label, pred, prob, target in zip(labels, preds, probs, targets, strict=True)
    ]


def scatter(
    embedding: Float[np.ndarray, "n 2"], labels: Int64[np.ndarray, "n"], classes: Sequence[str]
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Draw 2-D positions in their classes' colors, with the names of up to NUM_NAMES classes."""
    colors, named = class_colors(len(classes)), len(classes) <= NUM_NAMES
    canvas = Image.new("RGB", (SIDE + (150 if named else 0), SIDE), "white")
    draw = ImageDraw.Draw(canvas)
    low, high = embedding.min(axis=0), embedding.max(axis=0)
    places = 12 + (embedding - low) / np.maximum(high - low, 1e-12) * (SIDE - 24)
    for (x, y), label in zip(places, labels, strict=True):
        draw.ellipse((x - 2, SIDE - y - 2, x + 2, SIDE - y + 2), fill=colors[label])
    for i, name in enumerate(classes if named else ()):
        draw.ellipse((SIDE + 6, 12 + 20 * i, SIDE + 16, 22 + 20 * i), fill=colors[i])
        letters(12).draw(draw, (SIDE + 22, 21 + 20 * i), shorten(name, letters(12), 122), INK)
    return np.asarray(canvas)


def calibration(bins: Sequence[CalibrationBin]) -> UInt8[np.ndarray, "_ _ 3"]:
    """Draw accuracy over confidence: on the diagonal the model is as sure as it is right."""
    canvas = Image.new("RGB", (SIDE + 60, SIDE + 60), "white")
    draw = ImageDraw.Draw(canvas)
    for low, high, num, _, accuracy in bins:
        if num:
            box = (50 + low * SIDE, 10 + (1 - accuracy) * SIDE, 49 + high * SIDE, 10 + SIDE)
            draw.rectangle(box, fill=(108, 140, 213), outline="white")
    draw.line((50, 10 + SIDE, 50 + SIDE, 10), fill=MUTED, width=2)
    draw.line((50, 10, 50, 10 + SIDE, 50 + SIDE, 10 + SIDE), fill=INK)
    for value in (0.0, 0.5, 1.0):
        letters(12).draw(draw, (46 + value * SIDE, 27 + SIDE), f"{value:g}", INK)
        letters(12).draw(draw, (22, 14 + (1 - value) * SIDE), f"{value:g}", INK)
    letters(12).draw(draw, (SIDE / 2 - 40, 54 + SIDE), "confidence (bars: accuracy)", MUTED)
    return np.asarray(canvas)


def confusion(counts: Int64[np.ndarray, "k k"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """Draw a confusion matrix: rows are labels, columns predictions, each row in shares of its class."""
    totals = counts.sum(axis=1, keepdims=True)
    shares = (counts / np.maximum(totals, 1)).astype(np.float32)
    return enlarge(colorize(shares), SIDE)


def write(image: UInt8[np.ndarray, "h w c"], folder: Path, name: str) -> Path:
    """Write a PNG file and return where it lies."""
    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(image))
    return path
