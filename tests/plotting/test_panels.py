"""Pixels stay what they are, colors mean what they say, and figures hold whatever they are given."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from small_images import holds

from cvx.plotting import labels, panels
from cvx.plotting.colors import colorize, enlarge, gray_or_rgb, overlay, png_bytes
from cvx.plotting.fonts import letters


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def unit_map(h, w, signed=False, seed=0):
    values = np.random.default_rng(seed).uniform(-1 if signed else 0, 1, (h, w))
    return values.astype(np.float32)


def luminance(rgb):
    return rgb.astype(float) @ [0.2126, 0.7152, 0.0722]


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))),
    st.integers(1, 60),
)
def test_enlarging_repeats_each_pixel_a_whole_number_of_times(image, min_side):
    large = enlarge(image, min_side)
    factor = large.shape[0] // image.shape[0]
    assert large.shape == (image.shape[0] * factor, image.shape[1] * factor, image.shape[2])
    assert min(large.shape[:2]) >= min_side and min(image.shape[:2]) * (factor - 1) < min_side
    for row in range(factor):
        for column in range(factor):
            assert np.array_equal(large[row::factor, column::factor], image)


def test_an_image_that_is_large_enough_is_not_touched():
    image = noise(7, 9, 3)
    assert np.array_equal(enlarge(image, 7), image)


def test_colors_are_those_of_matplotlib():
    import matplotlib

    values = np.linspace(0, 1, 256, dtype=np.float32)[None]
    magma = matplotlib.colormaps["magma"](np.arange(256))[:, :3] * 255
    assert np.abs(colorize(values)[0] - magma).max() <= 1
    signed = np.linspace(-1, 1, 257, dtype=np.float32)[None]
    reds = matplotlib.colormaps["RdBu_r"](np.linspace(0, 1, 257))[:, :3] * 255
    assert np.abs(colorize(signed, signed=True)[0] - reds).max() <= 4  # it has 256 steps, one less


def test_larger_magnitudes_are_lighter():
    colors = colorize(np.linspace(0, 1, 256, dtype=np.float32)[None])[0]
    assert (np.diff(luminance(colors)) > -0.5).all()
    assert luminance(colors[0]) < 2 and luminance(colors[-1]) > 240


def test_zero_is_one_neutral_light_color_in_a_signed_map():
    red, green, blue = colorize(np.zeros((1, 1), np.float32), signed=True)[0, 0].tolist()
    assert red == green == blue >= 240


def test_positive_values_are_red_and_negative_ones_blue():
    values = np.array([[-1, -0.3, 0.3, 1]], np.float32)
    red, _, blue = colorize(values, signed=True)[0].astype(int).T
    assert (blue[:2] > red[:2]).all() and (red[2:] > blue[2:]).all()


@pytest.mark.parametrize("signed", [False, True])
def test_values_beyond_the_ends_look_like_the_ends(signed):
    low = -1 if signed else 0
    values = np.array([[low - 5, low, 1, 9]], np.float32)
    colors = colorize(values, signed)[0]
    assert np.array_equal(colors[0], colors[1]) and np.array_equal(colors[2], colors[3])


@pytest.mark.parametrize("channels", [1, 3])
def test_an_overlay_goes_from_the_gray_image_to_the_map(channels):
    image, values = noise(6, 5, channels), unit_map(6, 5)
    bare = overlay(image, values, opacity=0)
    assert np.array_equal(bare[..., 0], bare[..., 1]) and np.array_equal(bare[..., 0], bare[..., 2])
    expected = image[..., 0] if channels == 1 else image.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(bare[..., 0] - expected.astype(float)).max() <= 1
    assert np.array_equal(overlay(image, values, opacity=1), colorize(values))
    half = overlay(image, values, opacity=0.5).astype(float)
    assert np.abs(half - (bare.astype(float) + colorize(values)) / 2).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_gives_back_every_pixel(channels):
    image = noise(13, 11, channels)
    back = np.asarray(Image.open(io.BytesIO(png_bytes(image))))
    assert np.array_equal(back, gray_or_rgb(image))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("size", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (64, 48, 3)])
def test_a_panel_shows_image_map_and_overlay_pixel_by_pixel(size, signed):
    image, values = noise(*size), unit_map(*size[:2], signed)
    figure = panels.panel(image, values, title=["a", "b"], limit=0.5, unit="logit per unit pixel", signed=signed)
    assert holds(figure, enlarge(gray_or_rgb(image), 192))
    assert holds(figure, enlarge(colorize(values, signed), 192))
    assert holds(figure, enlarge(overlay(image, values, signed), 192))


LONG = "Madagascar cat, ring-tailed lemur, Lemur catta " * 12


@pytest.mark.parametrize("text", [LONG, "W" * 400, "ß猫 مرحبا\n\ttab", "", "   "])
def test_no_text_makes_a_figure_wider_or_reaches_its_edge(text):
    image, values = noise(8, 8, 1), unit_map(8, 8)
    plain = panels.panel(image, values, title=["a"], limit=1.0, unit="logit")
    figure = panels.panel(image, values, title=[text, text], notes=[text], limit=1.0, unit="logit")
    assert figure.shape[1] == plain.shape[1]
    assert (figure[:, -14:] == 255).all() and (figure[:14] == 255).all() and (figure[-14:] == 255).all()


def test_a_shortened_title_ends_in_an_ellipsis_and_keeps_all_that_fits():
    font = letters(17, True)
    text = panels.shorten(LONG, font, 300)
    assert text.endswith("…") and LONG.startswith(text[:-1])
    assert font.getlength(text) <= 300 < font.getlength(LONG[: len(text)] + "…") + font.getlength("m")
    assert panels.shorten("cat", font, 300) == "cat"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1.0, "1"), (0.0123456, "0.0123"), (-2.5, "−2.5"), (1234.5, "1.23e+03"), (-1e-9, "−1e-09")],
)
def test_numbers_have_three_digits_and_a_true_minus(value, text):
    assert labels.number(value) == text


def row(size=8, channels=1, num=3, text="cat", seed=0):
    images = [noise(size, size, channels, seed=seed + i) for i in range(num)]
    maps = [unit_map(size, size, seed=seed + i) for i in range(num)]
    mean = unit_map(size, size, seed=seed + 99)
    return panels.ClassRow(text, [text, text], images, maps, [text] * num, mean, 2.0)


def test_a_class_figure_shows_every_exemplar_and_map_of_every_model():
    rows = [row(8), row(28, seed=5), row(32, channels=3, seed=9)]
    figure = panels.class_figure(rows, title=["cat"], notes=[LONG], unit="× uniform map")
    for one in rows:
        factor = 112 // one.images[0].shape[0]
        for image, values in zip(one.images, one.maps, strict=True):
            assert holds(figure, gray_or_rgb(image).repeat(factor, 0).repeat(factor, 1))
            assert holds(figure, colorize(values).repeat(factor, 0).repeat(factor, 1))
        factor = 228 // one.images[0].shape[0]
        assert holds(figure, colorize(one.mean_map).repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize("num", [1, 8])
def test_long_names_do_not_widen_a_class_figure(num):
    plain = panels.class_figure([row(num=num)], title=["a"], unit="× uniform map")
    figure = panels.class_figure([row(num=num, text="W" * 300)], title=["a"], unit="× uniform map")
    assert figure.shape[1] <= plain.shape[1] + 190
    assert (figure[:, -14:] == 255).all()


def test_a_map_that_is_zero_everywhere_is_drawn_in_the_color_of_zero():
    image, values = noise(8, 8, 1), np.zeros((8, 8), np.float32)
    figure = panels.panel(image, values, title=["a"], limit=0.0, unit="logit", signed=True)
    assert holds(figure, enlarge(colorize(values, signed=True), 192))
