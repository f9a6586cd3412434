"""Text, pixels and color bars as HTML. Everything that is not a literal here is escaped."""

import functools
import html

import numpy as np
from jaxtyping import UInt8

from cvx.plotting import labels
from cvx.plotting.colors import colorize, data_uri


def text(value: object) -> str:
    """Escape anything for use in HTML, inside attributes too."""
    return html.escape(str(value), quote=True)


def picture(pixels: UInt8[np.ndarray, "h w c"], alt: str, classes: str = "") -> str:
    """Show pixels at their own resolution; the page enlarges them without smoothing."""
    height, width = pixels.shape[:2]
    return (
        f'<img class="cvx-pixels {classes}" src="{data_uri(pixels)}" width="{width}" height="{height}"'
        f' alt="{text(alt)}" draggable="false">'
    )


@functools.cache
def gradient(signed: bool) -> str:
    """Return the CSS gradient of a color scale, low to high."""
    steps = np.linspace(-1 if signed else 0, 1, 17, dtype=np.float32)[None]
    colors = colorize(steps, signed)[0]
    return f"linear-gradient(to right,{','.join('#' + bytes(color).hex() for color in colors)})"


def color_bar(limit: float, signed: bool) -> str:
    """Draw a scale with numbers at its ends."""
    return _bar(labels.number(-limit) if signed else "0", labels.number(limit), signed)


def legend(signed: bool, detail: str, more: str = "") -> str:
    """Say what the colors of maps mean, and in detail how the maps came to be.

    Args:
        more: What else stands there, as HTML.
    """
    ends = ("lowers the score", "raises it") if signed else ("no influence", "strong influence")
    return f'<div class="cvx-legend" role="note">{_bar(*ends, signed)}<span>{text(detail)}</span>{more}</div>'


def _bar(low: str, high: str, signed: bool) -> str:
    style = f"background:{gradient(signed)}"
    return f'<span class="cvx-bar"><span>{low}</span><i style="{style}"></i><span>{high}</span></span>'


def notice(title: str, body: str = "", kind: str = "info") -> str:
    """Say something in a box: `info` or `error`; the body is escaped."""
    role = "alert" if kind == "error" else "status"
    more = f"<p>{text(body)}</p>" if body else ""
    return f'<div class="cvx-notice cvx-{kind}" role="{role}"><strong>{text(title)}</strong>{more}</div>'
