"""One image file of any kind → uint8 pixels; the rules hold for folders, the Hub and uploads alike."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 89_478_485
"""Larger images are refused before they are decoded; Pillow's own warning starts at the same number."""

SURVEY = 2000
"""How many headers decide the size and the channels of a collection."""

# EPS would run Ghostscript; the others are recognized by Pillow but not decoded.
_NOT_READ = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
_GREY = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
# What Pillow's decoders raise on damaged bytes.
_DAMAGED = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)

ImageFile = Path | str | bytes | io.IOBase


class Images:
    """A fixed number of images, each read when it is asked for."""

    def __init__(self, num: int, read: Callable[[int], UInt8[np.ndarray, "h w c"]]) -> None:
        self._num = num
        self._read = read

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, index: int, /) -> UInt8[np.ndarray, "h w c"]:
        if not -self._num <= index < self._num:
            raise IndexError(f"image {index} of {self._num}")
        return self._read(int(index) % self._num)


def extensions() -> frozenset[str]:
    """List the file name endings of what `read_image` reads, lower-case, with the dot."""
    known = Image.registered_extensions()
    readable = (set(Image.OPEN) | {"MPO"}) - _NOT_READ
    return frozenset(ending for ending, kind in known.items() if kind in readable)


def read_image(file: ImageFile, name: str = "") -> UInt8[np.ndarray, "h w c"]:
    """Decode an image as people see it: upright, over white, 8 bits, first frame.

    EXIF rotation is applied, transparency laid over white, 16 bits scaled to 8, CMYK and palettes turned into
    RGB. One channel comes back for a file that stores gray, three for any other.

    Args:
        name: What to call the image in an error, where it is no file.

    Raises:
        ValueError: If it is no image, is damaged, is larger than `MAX_PIXELS`, or has no defined white.
        FileNotFoundError: If there is no such file.
    """
    with _opened(file, name or _name_of(file)) as image:
        image.load()
        pixels = np.array(_eight_bit(_upright(image)))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def read_header(file: ImageFile, name: str = "") -> tuple[int, int, bool]:
    """Read width, height and whether the file stores gray, without decoding.

    Raises:
        ValueError: As `read_image` does, where the header shows it.
    """
    with _opened(file, name or _name_of(file)) as image:
        return image.width, image.height, image.mode in _GREY


def survey(num: int, header: Callable[[int], tuple[int, int, bool]]) -> tuple[int, int]:
    """Find a collection's image size (0 unless all are equal squares) and channels (1 if all are gray).

    Looks at all headers up to `SURVEY`, at that many evenly spaced ones beyond, and stops as soon as both are
    settled: a million photographs of different sizes cost two headers.
    """
    size, gray = -1, True
    for index in np.unique(np.linspace(0, num - 1, min(num, SURVEY)).astype(int)):
        width, height, stores_gray = header(int(index))
        square = width if width == height else 0
        size = square if size in (-1, square) else 0
        gray = gray and stores_gray
        if size == 0 and not gray:
            break
    return max(size, 0), 1 if gray else 3


@contextmanager
def _opened(file: ImageFile, name: str) -> Iterator[Image.Image]:
    """Open an image, refuse it if it is too large, and turn a decoder's errors into one that names it."""
    content: Any = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        with Image.open(content, formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height}")
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{name} is too large ({error}); at most {MAX_PIXELS:,} pixels are read: make it smaller"
        ) from None
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not an image Pillow reads; convert it to PNG or JPEG") from None
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{name} cannot be read: {error or type(error).__name__}; replace or remove it") from None


def _formats() -> list[str]:
    Image.init()
    return [kind for kind in Image.OPEN if kind not in _NOT_READ]


def _name_of(file: ImageFile) -> str:
    return str(file) if isinstance(file, Path | str) else "the image"


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGED:  # an unreadable EXIF block says nothing about rotation; the pixels are fine
        turn = None
    return image if turn is None else image.transpose(turn)


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_from_16_bit(np.asarray(image)))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined white; save it with 8 or 16 bits")
    gray = image.mode in _GREY
    if image.has_transparency_data:
        image = image.convert({"La": "LA", "PA": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if gray else "RGB")


def _from_16_bit(values: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise ValueError("32-bit pixels have no defined white; save it with 8 or 16 bits")
    return ((wide + 128) // 257).astype(np.uint8)
