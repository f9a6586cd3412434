import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from damage import fuzz, mutations
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from small_images import COLOR, GRAY, encoded_as

from cvx.data.image_file import (
    MAX_PIXELS,
    Header,
    Images,
    extensions,
    read_header,
    read_image,
    survey,
)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "WEBP"])
def test_lossless_files_give_their_pixels(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(read_image(encoded_as(Image.fromarray(COLOR), kind, **options)), COLOR)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "JPEG"])
def test_gray_files_have_one_channel(kind):
    image = read_image(encoded_as(Image.fromarray(GRAY), kind, quality=100))
    assert image.shape == (5, 7, 1)
    np.testing.assert_allclose(image[..., 0], GRAY, atol=3 if kind == "JPEG" else 0)


def test_paths_text_paths_and_open_files_give_the_same(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded_as(Image.fromarray(COLOR), "PNG"))
    for file in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        np.testing.assert_array_equal(read_image(file), COLOR)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(kind, orientation):
    # Dark with a red upper left corner, stored as a camera held in each of the eight ways stores it.
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16, 0] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(encoded_as(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, quality=100))
    assert image.shape == upright.shape
    np.testing.assert_allclose(image[4:12, 4:12].mean((0, 1)), [255, 0, 0], atol=8)
    assert image[20:].mean() < 8


def test_a_broken_exif_block_does_not_cost_the_image():
    content = encoded_as(Image.fromarray(COLOR), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")
    with pytest.warns(UserWarning, match="EXIF"):  # Pillow's own
        np.testing.assert_array_equal(read_image(content), COLOR)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_laid_over_white(kind):
    alpha = np.zeros((5, 7), np.uint8)
    alpha[2:, :3], alpha[2:, 3:] = 255, 128
    pixels = np.dstack([COLOR, alpha])
    image = read_image(encoded_as(Image.fromarray(pixels), kind, **({"lossless": True} if kind == "WEBP" else {})))
    share = alpha[..., None] / 255
    expected = COLOR * share + 255 * (1 - share)
    # WebP keeps no color where nothing is seen, which white covers.
    np.testing.assert_allclose(image, expected, atol=1)


def test_gray_with_alpha_stays_gray_over_white():
    alpha = np.full_like(GRAY, 64)
    image = read_image(encoded_as(Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(alpha)]), "PNG"))
    assert image.shape == (5, 7, 1)
    np.testing.assert_allclose(image[..., 0], GRAY * (64 / 255) + 255 * (191 / 255), atol=1)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white_and_the_others_are_their_colors(kind):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert read_image(encoded_as(image, kind)).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert read_image(encoded_as(image, kind, transparency=0)).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_a_transparent_color_of_an_rgb_png_is_white():
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert read_image(encoded_as(image, "PNG", transparency=(1, 2, 3))).tolist() == [[[255] * 3, [4, 5, 6]]]


def test_cmyk_becomes_rgb():
    image = read_image(encoded_as(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100))
    np.testing.assert_allclose(image, np.broadcast_to([255, 0, 0], (16, 16, 3)), atol=4)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_counts(kind):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    content = encoded_as(
        frames[0],
        kind,
        save_all=True,
        append_images=frames[1:],
        **{"lossless": True} if kind == "WEBP" else {},
    )
    assert read_image(content)[3, 3].tolist() == [255, 0, 0]


def test_one_bit_and_one_pixel_images_are_read():
    assert read_image(encoded_as(Image.new("1", (3, 2), 1), "PNG")).tolist() == [[[255]] * 3] * 2
    assert read_image(encoded_as(Image.new("RGB", (1, 1), "red"), "PNG")).tolist() == [[[255, 0, 0]]]


def _empty_png(width, height):
    """A file of 70 bytes that claims any size."""
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]:
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return content


@pytest.mark.parametrize(
    ("width", "height"), [(20_000, 20_000), (10_000, 10_000), (MAX_PIXELS + 1, 1), (2**31 - 1, 2**31 - 1)]
)
@pytest.mark.parametrize("read", [read_image, read_header])
def test_an_image_too_large_to_decode_is_refused_by_its_header(read, width, height):
    with pytest.raises(ValueError, match=r"big\.png is too large .*at most 89,478,485 pixels"):
        read(_empty_png(width, height), "big.png")


def test_the_limit_itself_is_read_as_a_header():
    assert read_header(_empty_png(9459, 9459)) == Header(9459, 9459, gray=False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_what_is_no_image_is_named(content, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.jpg is not an image Pillow reads"):
        read_image(path)
    with pytest.raises(ValueError, match="the image is not an image Pillow reads"):
        read_image(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
def test_a_truncated_image_is_an_error_that_names_it(kind, tmp_path):
    content = encoded_as(Image.fromarray(np.kron(COLOR, np.ones((9, 9, 1), np.uint8))), kind)
    path = tmp_path / "half"
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match=r"half (is not an image|cannot be read)"):
            read_image(path)


def test_damaged_bytes_are_always_a_value_error():
    random = np.random.default_rng(0)
    errors = 0
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "TGA", "PCX", "ICO", "SGI", "PPM", "JPEG2000"):
        content = bytearray(encoded_as(Image.fromarray(np.kron(COLOR, np.ones((4, 4, 1), np.uint8))), kind))
        for _ in range(40):
            damaged = bytearray(content)
            for place in random.integers(0, min(len(damaged), 120), 3):
                damaged[place] = random.integers(256)
            try:
                assert read_image(bytes(damaged)).dtype == np.uint8
            except ValueError:
                errors += 1
            except Warning:  # Pillow's own about what it met; a warning is an error in these tests only
                errors += 1
    assert errors > 50


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")


def test_extensions_are_those_of_what_can_be_decoded():
    known = extensions()
    assert {
        ".jpg",
        ".jpeg",
        ".png",
        ".gif",
        ".bmp",
        ".tif",
        ".webp",
        ".ppm",
        ".avif",
        ".jp2",
        ".mpo",
    } <= known
    assert not {".eps", ".ps", ".pdf", ".mpg", ".h5", ".txt", ""} & known


def test_a_survey_looks_at_few_headers_of_many_images():
    asked = []

    def photographs(index):
        asked.append(index)
        return Header(640 + index % 3, 480, gray=False)

    assert survey(1_000_000, photographs)[:2] == (0, 3)
    assert len(asked) == 1
    assert survey(1_000_000, lambda index: (asked.append(index), Header(64, 64, gray=False))[1])[:2] == (64, 3)
    assert len(asked) == 2001


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(8, 8, True)], (8, 1)),
        ([(8, 8, True), (8, 8, False)], (8, 3)),
        ([(8, 8, True), (9, 9, True)], (0, 1)),
        ([(8, 6, True), (8, 6, True)], (0, 1)),
        ([(8, 8, False), (8, 6, True), (8, 8, False)], (0, 3)),
    ],
)
def test_the_size_is_that_of_equal_squares_and_one_channel_needs_all_gray(headers, expected):
    assert survey(len(headers), lambda index: Header(*headers[index]))[:2] == expected


def test_images_read_on_demand_and_end():
    images = Images(3, lambda index: np.full((1, 1, 1), index, np.uint8))
    assert [image.item() for image in images] == [0, 1, 2]
    assert images[-1].item() == 2
    with pytest.raises(IndexError, match="image 3 of 3"):
        images[3]


# what anything may have changed


def encoded(kind, **options):
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


WHOLE = {kind: encoded(kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "TGA", "ICO")}
WIDE = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)[::8, ::8])
WHOLE["TIFF of 12 bits"] = encoded_as(WIDE, "TIFF", tiffinfo={281: 4095})
SBIT = PngInfo()
SBIT.add(b"sBIT", b"\x0c")
WHOLE["PNG of 12 bits"] = encoded_as(WIDE, "PNG", pnginfo=SBIT)


@st.composite
def spliced(draw):
    """Put the front of one kind of file before the rest of another."""
    front, rest = (WHOLE[draw(st.sampled_from(sorted(WHOLE)))] for _ in range(2))
    return front[: draw(st.integers(1, 64))] + rest[draw(st.integers(0, 64)) :]


@fuzz
@given(content=st.sampled_from(sorted(WHOLE)).flatmap(lambda kind: mutations(WHOLE[kind])) | spliced())
def test_a_picture_with_anything_changed_is_read_or_refused_by_name(content):
    for read in (read_image, read_header):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
                found = read(content, "the upload")
        except ValueError as error:
            assert str(error).startswith("the upload")
        else:
            assert read is read_header or (found.dtype == np.uint8 and found.size <= 3 * MAX_PIXELS)
