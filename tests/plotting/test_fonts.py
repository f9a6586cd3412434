"""The letters of figures, also those of scripts that the figures' own font lacks."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from cvx.plotting import fonts, panels


def test_a_character_that_the_font_lacks_is_written_in_an_installed_one_that_has_it():
    strange = "\u1d81"  # in matplotlib's own STIX and not in its DejaVu
    [before, there, after] = fonts.letters(13)._pieces(f"a{strange}b")
    assert [piece for piece, _ in (before, there, after)] == ["a", strange, "b"]
    assert "DejaVu" in before[1].path and "DejaVu" in after[1].path and "DejaVuSans.ttf" not in there[1].path
    assert ord(strange) in fonts._known(there[1].path)
    lengths = [font.getlength(piece) for piece, font in (before, there, after)]
    assert fonts.letters(13).getlength(f"a{strange}b") == pytest.approx(sum(lengths))


def test_names_that_no_installed_font_can_write_stay_different(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", list)
    fonts._path_for.cache_clear()
    [(cat, _)], [(dog, _)] = (fonts.letters(13, True)._pieces(name) for name in ("\u732b", "\u72ac"))
    fonts._path_for.cache_clear()
    assert (cat, dog) == ("⟨732B⟩", "⟨72AC⟩")
    assert not np.array_equal(panels._line(cat, 13, (0, 0, 0)), panels._line(dog, 13, (0, 0, 0)))


def test_ordinary_text_is_drawn_as_it_was_with_one_font():
    text, font = "label 3 · 97 % ✓ Grün ∂", ImageFont.truetype(fonts._dejavu(False), 13)
    canvas = Image.new("RGB", (400, 18), "white")
    ImageDraw.Draw(canvas).text((0, round(13 * 1.05)), text, fill=(0, 0, 0), font=font, anchor="ls")
    line = panels._line(text, 13, (0, 0, 0))
    assert np.array_equal(line, np.asarray(canvas)[: line.shape[0], : line.shape[1]])
