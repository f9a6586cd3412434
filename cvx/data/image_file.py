"""Read one image file of any kind as uint8 pixels, by the same rules for folders, the Hub and uploads."""

import functools
import io
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

MAX_PIXELS = 89_478_485
"""Larger images are refused before they are decoded; Pillow's own warning starts at the same number."""

SURVEY = 2000
"""How many headers decide the size and the channels of a collection."""
NUM_LOOKED_AT = 16
"""Images of a collection with 16 bits that are decoded to see whether they use them."""
FEW_LEVELS = 4096
"""What stays below it in 16 bits, as 12 bits do, is left with 16 of 256 levels."""

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

_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE = 258, 262, 281, 341
_DEFAULT_WHITE = 65535
_16_BITS = re.compile(r"(?<!BGR);16")  # BGR;16 is a pixel of 16 bits

ImageFile = Path | str | bytes | io.IOBase


class Header(NamedTuple):
    """What an image file says before it is decoded."""

    width: int
    height: int
    gray: bool
    """It stores gray."""
    deep: bool = False
    """It stores more than 8 bits a sample, as they are."""
    stated: bool = False
    """It says how many of its 16 bits are used, or that 0 is white."""


class Survey(NamedTuple):
    """What the headers of a collection have in common."""

    image_size: int
    """0 unless all are equal squares."""
    in_chans: int
    """1 if all are gray."""
    silent: bool = False
    """Some store 16 bits and do not say how many of them are used."""
    stated: bool = False
    """Some do say it, and are read by what they say."""


class _Range(NamedTuple):
    """How the samples of a file with more than 8 bits are meant."""

    white: int = _DEFAULT_WHITE
    inverted: bool = False
    """0 is white, and `white` black."""
    bits: int = 16
    """What a PNG says is significant; its samples are then scaled to 16, if its writer did as the standard asks."""


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


@functools.cache
def extensions() -> frozenset[str]:
    """List the file name endings of what `read_image` reads, lower-case, with the dot."""
    known = Image.registered_extensions()
    readable = (set(Image.OPEN) | {"MPO"}) - _NOT_READ
    return frozenset(ending for ending, kind in known.items() if kind in readable)


def read_image(file: ImageFile, name: str = "") -> UInt8[np.ndarray, "h w c"]:
    """Decode an image as people see it: upright, over white, 8 bits, first frame.

    EXIF rotation is applied, transparency laid over white, 16 bits scaled to 8, CMYK and palettes turned into
    RGB. One channel comes back for a file that stores gray, three for any other. White is 65,535 in 16 bits of gray
    unless the file says another: a PGM's maximum, a TIFF's BitsPerSample or MaxSampleValue, a PNG's sBIT.

    Args:
        name: What to call the image in an error, where it is no file.

    Raises:
        ValueError: If it is no image, is damaged, is larger than `MAX_PIXELS`, or has no defined white.
        FileNotFoundError: If there is no such file.
    """
    with _opened(file, name or _name_of(file)) as image:
        meant = _range(image)
        image.load()
        pixels = np.array(_eight_bit(_upright(image), meant))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def read_header(file: ImageFile, name: str = "") -> Header:
    """Read width, height, whether the file stores gray and how deep, without decoding.

    Raises:
        ValueError: As `read_image` does, where the header shows it.
    """
    with _opened(file, name or _name_of(file)) as image:
        gray, deep = image.mode in _GREY, _is_deep(image)
        return Header(image.width, image.height, gray, deep, deep and _range(image) != _Range())


def survey(num: int, header: Callable[[int], Header]) -> Survey:
    """Find what a collection's headers have in common.

    Looks at all headers up to `SURVEY`, at that many evenly spaced ones beyond, and stops as soon as size and channels
    are settled: a million photographs of different sizes cost two headers.
    """
    size, gray, silent, stated = -1, True, False, False
    for index in np.unique(np.linspace(0, num - 1, min(num, SURVEY)).astype(int)):
        found = header(int(index))
        square = found.width if found.width == found.height else 0
        size = square if size in (-1, square) else 0
        gray = gray and found.gray
        silent = silent or (found.deep and not found.stated)
        stated = stated or found.stated
        if size == 0 and not gray:
            break
    return Survey(max(size, 0), 1 if gray else 3, silent, stated)


def warn_of_few_levels(
    name: str, num: int, header: Callable[[int], Header], read: Callable[[int], UInt8[np.ndarray, "h w c"]]
) -> None:
    """Print a line if images of a collection store 16 bits, do not say how many they use, and use 12 or fewer.

    They are read as they are: a scale of each image's own would make images incomparable.
    """
    rows = np.unique(np.linspace(0, num - 1, min(num, NUM_LOOKED_AT)).astype(int)).tolist()
    silent = [row for row in rows if (found := header(row)).deep and not found.stated]
    most = _scaled(np.array([[FEW_LEVELS - 1]]), _Range()).item()
    if dark := sum(int(read(row).max()) <= most for row in silent):
        print(
            f"{name}: {dark} of {len(silent)} images with 16 bits that were looked at stay below {FEW_LEVELS:,}, as 12 "
            f"bits do, and say nothing of it: read as 16 bits, they keep {most} of 255 levels. If 12 bits are meant, "
            "multiply the pixels by 16 and save them again, or say so in gray files (TIFF: MaxSampleValue 4095; PNG: "
            "sBIT 12)",
            file=sys.stderr,
        )


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
    return os.fsencode(file).decode(errors="backslashreplace") if isinstance(file, Path | str) else "the image"


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGED:  # an unreadable EXIF block says nothing about rotation; the pixels are fine
        turn = None
    return image if turn is None else image.transpose(turn)


def _is_deep(image: Image.Image) -> bool:
    """Say whether an opened image stores more than 8 bits a sample that Pillow does not scale by itself."""
    upper_half = any(_16_BITS.search(str(tile)) for tile in getattr(image, "tile", ()))
    return (_is_wide_gray(image) or upper_half) and image.format not in ("PPM", "JPEG2000")


def _is_wide_gray(image: Image.Image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


def _range(image: Image.Image) -> _Range:
    """Read from an opened image how its samples are meant; color is left to Pillow, which takes the upper 8 bits."""
    if not (_is_deep(image) and _is_wide_gray(image)):
        return _Range()
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        stated = [_DEFAULT_WHITE, 2 ** min(_first(tags.get(_BITS_PER_SAMPLE, 16)), 16) - 1]
        stated += [_first(tags[tag]) for tag in (_MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE) if tag in tags]
        # A maximum may be just the image's own; 2^n - 1 says how many bits are used.
        white = min(one for one in stated if one >= 255 and one & (one + 1) == 0)
        return _Range(white, inverted=tags.get(_PHOTOMETRIC) == 0)
    return _Range(bits=_significant_bits(image) if image.format == "PNG" else 16)


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def _significant_bits(image: Any) -> int:
    """Read a gray PNG's sBIT chunk, which Pillow passes over; 16 if there is none."""
    file, place = image.fp, image.fp.tell()
    file.seek(8)
    try:
        while (head := struct.unpack(">I4s", file.read(8)))[1] not in (b"sBIT", b"IDAT", b"IEND"):
            file.seek(head[0] + 4, io.SEEK_CUR)
        bits = file.read(1)[0] if head[1] == b"sBIT" else 16
    finally:
        file.seek(place)
    return bits if 8 <= bits <= 16 else 16


def _eight_bit(image: Image.Image, meant: _Range) -> Image.Image:
    if _is_wide_gray(image):
        return Image.fromarray(_scaled(np.asarray(image), meant))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined white; save it with 8 or 16 bits")
    gray = image.mode in _GREY
    if image.has_transparency_data:
        image = image.convert({"La": "LA", "PA": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if gray else "RGB")


def _scaled(values: np.ndarray, meant: _Range) -> UInt8[np.ndarray, "h w"]:
    wide, white = values.astype(np.int32), meant.white
    if wide.min() < 0 or wide.max() > _DEFAULT_WHITE:
        raise ValueError("32-bit pixels have no defined white; save it with 8 or 16 bits")
    if wide.max() > white:
        raise ValueError(
            f"it says that {white:,} is its largest value, and holds {wide.max():,}; save it anew with 8 or 16 bits"
        )
    # n bits that were scaled to 16 and stay below 2^n have 16 - n lower bits of at most 1; any more were not scaled.
    if meant.bits < 16 and wide.max() < 2**meant.bits and (wide % 2 ** (16 - meant.bits)).max() > 1:
        white = 2**meant.bits - 1
    if meant.inverted:
        wide = white - wide
    return ((wide * 510 + white) // (2 * white)).astype(np.uint8)
