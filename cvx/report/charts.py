"""Charts as SVG whose ink follows the page's light or dark colors, and scatter plots as PNG."""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from markupsafe import Markup

INK, SOFT, LINE = "#010101", "#020202", "#030303"
"""Stand for the page's colors while matplotlib draws."""
NUM_COLORS = 8
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
_VARIABLES = {INK: "var(--ink)", SOFT: "var(--soft)", LINE: "var(--line)"}
_VARIABLES |= {f"#0400{i:02x}": f"var(--c{i})" for i in range(NUM_COLORS)}
_OWN_IDS = re.compile(
    r' id="(?:figure|axes|patch|line2d|text|xtick|ytick|matplotlib\.axis|PathCollection|LineCollection'
    r'|FillBetweenPolyCollection|PolyCollection)_\d+"'
)
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class may be called $\alpha
    "font.size": 9.5,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}


@dataclass(frozen=True, eq=False)
class Curve:
    """A line with the band of its seeds."""

    x: Float[np.ndarray, "n"]
    mean: Float[np.ndarray, "n"]
    low: Float[np.ndarray, "n"]
    high: Float[np.ndarray, "n"]
    color: int
    """Of the page's palette; -1 is gray."""
    dash: int = 0


@dataclass(frozen=True, eq=False)
class PlotLine:
    """A line by itself."""

    x: Sequence[float] | Float[np.ndarray, "n"]
    y: Sequence[float] | Float[np.ndarray, "n"]
    color: int
    """Of the page's palette; -1 is gray."""


def color_of(i: int) -> str:
    """Return the placeholder of the palette's color i, or of gray for -1."""
    return SOFT if i < 0 else f"#0400{i % NUM_COLORS:02x}"


def css_color(i: int) -> str:
    """Return the palette's color i as the page writes it."""
    return "var(--soft)" if i < 0 else f"var(--c{i % NUM_COLORS})"


@contextlib.contextmanager
def axes(width: float = 4.2, height: float = 2.7) -> Iterator[tuple[Any, Any]]:
    """Give a figure with one pair of axes in the page's style."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.patch.set_alpha(0)
        place = figure.add_subplot()
        place.patch.set_alpha(0)
        yield figure, place


def svg(figure: Any, salt: str) -> Markup:
    """Write a figure as SVG to stand in a page beside others.

    Args:
        salt: Makes the ids of this figure its own, and the same in every report.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = _OWN_IDS.sub("", text[text.index("<svg") :])
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text.replace("\n", " "), count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    return Markup(text)


def curves(lines: Sequence[Curve], y_label: str, salt: str, *, percent: bool = False) -> Markup:
    """Draw lines over epochs."""
    with axes() as (figure, place):
        for line in lines:
            color, width = color_of(line.color), 0.8 if line.color < 0 else 1.9
            if (line.high > line.low).any():
                place.fill_between(line.x, line.low, line.high, color=color, alpha=0.16, lw=0)
            marker = "o" if len(line.x) == 1 else ""
            place.plot(line.x, line.mean, color=color, lw=width, ls=DASHES[line.dash % len(DASHES)], marker=marker)
        place.set_xlabel("epoch")
        place.set_ylabel(y_label)
        if percent:
            place.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        return svg(figure, salt)


def lines(
    series: Sequence[PlotLine],
    x_label: str,
    salt: str,
    *,
    y_label: str = "",
    y_range: tuple[float, float] | None = None,
    size: tuple[float, float] = (3.4, 2.3),
) -> Markup:
    """Draw lines that are told apart by color and dash; gray ones are what the others are held against."""
    with axes(*size) as (figure, place):
        for line in series:
            width, dash = (1.3, DASHES[2]) if line.color < 0 else (1.9, DASHES[line.color % len(DASHES)])
            place.plot(line.x, line.y, color=color_of(line.color), lw=width, ls=dash)
        if y_range is not None:
            low, high = y_range
            place.set_ylim(low - 0.02 * (high - low), high + 0.03 * (high - low))
        place.set_xlabel(x_label)
        place.set_ylabel(y_label)
        return svg(figure, salt)


def calibration(bins: Sequence[tuple[float, float, int, float, float]], salt: str) -> Markup:
    """Draw accuracy over confidence against the diagonal, and below it how many images each bin holds."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    low, high, num, _, right = (np.array(values, np.float64) for values in zip(*bins, strict=True))
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(3.8, 3.2), layout="constrained")
        figure.patch.set_alpha(0)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        for place, heights in ((top, np.where(num > 0, right, 0.0)), (bottom, num / max(1.0, num.sum()))):
            place.patch.set_alpha(0)
            place.bar(low, heights, width=(high - low) * 0.92, align="edge", color=color_of(0), lw=0, alpha=0.8)
            place.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        top.plot([0, 1], [0, 1], color=INK, lw=1.2, ls=DASHES[1])
        top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="right")
        bottom.set(xlabel="confidence", ylabel="images")
        bottom.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        return svg(figure, salt)


def scatter(
    points: Float[np.ndarray, "n 2"], labels: Int64[np.ndarray, "n"], colors: Sequence[str], wrong: np.ndarray
) -> bytes:
    """Draw points on nothing, colored by class, misclassified ones as crosses; a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4, 3.4), dpi=150)
    figure.patch.set_alpha(0)
    place = figure.add_axes((0, 0, 1, 1))
    place.set_axis_off()
    shades = np.array(colors)[labels]
    size = float(np.clip(9000 / max(1, len(points)), 5, 26))
    place.scatter(points[~wrong, 0], points[~wrong, 1], c=shades[~wrong], s=size, lw=0, alpha=0.85)
    place.scatter(points[wrong, 0], points[wrong, 1], c=shades[wrong], s=size * 1.8, marker="x", lw=1.1)
    place.margins(0.04)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return buffer.getvalue()
