"""Turn arrays into RGB pixels and PNG files: color maps, overlays, integer upscaling.

Every image is enlarged by a whole factor with nearest neighbors, so what is seen is what was computed.
Magnitudes are drawn in magma; signed maps in red (raises the score), near-white (zero, always) and blue
(lowers it). Both can be read by color-blind people.
"""

import base64
import functools
import io
import math

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

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


def data_uri(image: UInt8[np.ndarray, "h w c"]) -> str:
    """Encode pixels as they are, so that a page needs no other file; it enlarges them without smoothing."""
    return png_uri(png_bytes(image))


def png_uri(png: bytes) -> str:
    """Write a PNG file as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


# A figure is made of pieces, RGB arrays on white that are put beside or above each other.
