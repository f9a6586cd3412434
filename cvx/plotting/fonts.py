"""Fonts of figures: DejaVu, and whatever is installed for the scripts that it lacks."""

import functools
from pathlib import Path

from PIL import ImageDraw, ImageFont


@functools.cache
def letters(size: int, bold: bool = False) -> "Letters":
    """Return the figures' font of a size."""
    return Letters(size, bold)


class Letters:
    """A size of the figures' font, with installed fonts for the scripts that it lacks, such as Chinese.

    A character that no font has is written as its code point, so that two names never become the same boxes.
    """

    def __init__(self, size: int, bold: bool):
        self._size, self._bold = size, bold

    def getlength(self, text: str) -> float:
        """Return how many pixels wide a text is."""
        return sum(font.getlength(piece) for piece, font in self._pieces(text))

    def draw(
        self, canvas: ImageDraw.ImageDraw, at: tuple[float, float], text: str, color: tuple[int, int, int]
    ) -> None:
        """Write a text that begins at a place on its baseline."""
        left, baseline = at
        for piece, font in self._pieces(text):
            canvas.text((left, baseline), piece, fill=color, font=font, anchor="ls")
            left += font.getlength(piece)

    def _pieces(self, text: str) -> list[tuple[str, ImageFont.FreeTypeFont]]:
        found: list[tuple[str, str]] = []
        for char in text:
            path = _path_for(char, self._bold)
            piece = char if path is not None else f"⟨{ord(char):X}⟩"
            path = path or _dejavu(self._bold)
            if found and found[-1][1] == path:
                found[-1] = (found[-1][0] + piece, path)
            else:
                found.append((piece, path))
        return [(piece, _truetype(path, self._size)) for piece, path in found]


@functools.cache
def _truetype(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@functools.cache
def _path_for(char: str, bold: bool) -> str | None:
    """Return the first font that has a character; None if there is none. Only what DejaVu lacks is looked for."""
    if not char.isprintable() or ord(char) in _known(_dejavu(bold)):
        return _dejavu(bold)
    return next((path for path in _installed() if ord(char) in _known(path)), None)


def _dejavu(bold: bool) -> str:
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)


@functools.cache
def _installed() -> list[str]:
    """List the installed upright fonts, those made for many scripts first; none that draws a box for everything."""
    from matplotlib.font_manager import fontManager

    fonts = [one for one in fontManager.ttflist if one.style == "normal" and not one.name.startswith("Last Resort")]
    fonts.sort(key=lambda one: ("CJK" not in one.name, not one.name.startswith("Noto"), one.weight != 400, one.name))
    return list(dict.fromkeys(one.fname for one in fonts))


@functools.cache
def _known(path: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError):  # a font file that cannot be read has nothing
        return frozenset()
