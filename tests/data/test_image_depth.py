"""Images with more than 8 bits a sample: how they are scaled, and what is said of them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from small_images import COLOR, GRAY, encoded_as

from cvx.data.image_file import read_header, read_image, warn_of_few_levels


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_to_8(kind):
    wide = np.array([[0, 1, 128, 129, 257, 32768, 65406, 65535]], np.uint16)
    image = read_image(encoded_as(Image.fromarray(wide), kind))
    assert image[0, :, 0].tolist() == np.rint(wide[0] / 257).tolist()
    assert image.shape == (1, 8, 1)


def _wide_color(wide):
    """Write 16-bit RGB as a PNG, which Pillow reads by its upper bytes and does not write."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", wide.shape[1], wide.shape[0], 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in wide))),
    ]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in [*chunks, (b"IEND", b"")]:
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return content


def test_16_bit_color_is_scaled_to_8():
    wide = np.arange(0, 65536, 5461, dtype=">u2")[:12].reshape(1, 4, 3)
    np.testing.assert_allclose(read_image(_wide_color(wide)), wide / 257, atol=1)


def _png(wide, **chunks):
    """Write 16-bit gray as a PNG with chunks of its own before the pixels, such as sBIT."""
    info = PngInfo()
    for name, data in chunks.items():
        info.add(name.encode(), data)
    return encoded_as(Image.fromarray(wide), "PNG", pnginfo=info)


def _tiff(wide, data, bits, compression, **more):
    """Write a gray TIFF of one strip, as Pillow writes none: bits packed, or compressed with tags of its own."""
    height, width = wide.shape
    tags = {256: width, 257: height, 258: bits, 259: compression, 262: 1, 277: 1, 278: height, 279: len(data)}
    tags |= {int(tag[1:]): value for tag, value in more.items()}
    tags[273] = 8 + 2 + 12 * (len(tags) + 1) + 4
    content = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return content + b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags)) + bytes(4) + data


def _packed(wide):
    """Put two samples of 12 bits into three bytes."""
    pairs = wide.reshape(-1, 2).astype(np.int64)
    three = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], -1)
    return three.astype(np.uint8).tobytes()


TWELVE = np.concatenate([[0, 1, 8, 9], np.linspace(16, 4095, 60)]).astype(np.uint16).reshape(8, 8)


IN_8 = np.rint(TWELVE / 4095 * 255)


_GIVEN_AS_12_BITS = {
    "TIFF that packs 12 bits": _tiff(TWELVE, _packed(TWELVE), 12, 1),
    "TIFF with MaxSampleValue": encoded_as(Image.fromarray(TWELVE), "TIFF", tiffinfo={281: 4095}),
    "TIFF with SMaxSampleValue": encoded_as(Image.fromarray(TWELVE), "TIFF", tiffinfo={341: 4095}),
    "TIFF of 32 bits with MaxSampleValue": encoded_as(
        Image.fromarray(TWELVE.astype(np.int32)), "TIFF", tiffinfo={281: 4095}
    ),
    "compressed TIFF": _tiff(TWELVE, zlib.compress(TWELVE.astype("<u2").tobytes()), 16, 8, t281=4095),
    "PNG with sBIT, not scaled": _png(TWELVE, sBIT=b"\x0c"),
    "PNG with sBIT, scaled by shifting": _png(TWELVE << 4, sBIT=b"\x0c"),
    "PNG with sBIT, scaled by repeating bits": _png(TWELVE << 4 | TWELVE >> 8, sBIT=b"\x0c"),
    "PNG with sBIT, scaled as a fraction": _png(np.rint(TWELVE / 4095 * 65535).astype(np.uint16), sBIT=b"\x0c"),
    "PGM": b"P5\n8 8\n4095\n" + TWELVE.astype(">u2").tobytes(),
}


@pytest.mark.parametrize("kind", _GIVEN_AS_12_BITS)
def test_12_bits_in_a_file_that_says_so_are_scaled_from_4095(kind):
    image = read_image(_GIVEN_AS_12_BITS[kind])[..., 0]
    np.testing.assert_allclose(image, IN_8, atol=1 if "shifting" in kind else 0)


@pytest.mark.parametrize("scale", ["shifting", "repeating bits", "a fraction"])
def test_a_dark_png_that_was_scaled_as_the_standard_asks_stays_dark(scale):
    dark = (np.arange(64, dtype=np.uint16) * 4).reshape(8, 8)
    wide = {"shifting": dark << 4, "repeating bits": dark << 4 | dark >> 8, "a fraction": np.rint(dark / 4095 * 65535)}
    image = read_image(_png(wide[scale].astype(np.uint16), sBIT=b"\x0c"))[..., 0]
    np.testing.assert_allclose(image, np.rint(dark / 4095 * 255), atol=1)
    assert image.max() == 16


def test_the_largest_value_of_an_image_is_no_scale():
    # MaxSampleValue may be just what this image reaches: images scaled by theirs could not be compared.
    wide = np.array([[0, 3000, 20_000]], np.uint16)
    for stated in (3000, 20_000, 65_535, 0):
        image = read_image(encoded_as(Image.fromarray(wide), "TIFF", tiffinfo={281: stated}))
        assert image[0, :, 0].tolist() == np.rint(wide[0] / 257).tolist()


def test_a_file_that_holds_more_than_it_says_is_refused():
    content = encoded_as(Image.fromarray(TWELVE), "TIFF", tiffinfo={281: 1023})
    with pytest.raises(ValueError, match=r"x\.tif .* says that 1,023 is its largest value, and holds 4,095"):
        read_image(content, "x.tif")


def test_16_bits_where_0_is_white_are_inverted():
    content = encoded_as(Image.fromarray(TWELVE), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(read_image(content)[..., 0], np.rint((65535 - TWELVE.astype(int)) / 257))
    content = encoded_as(Image.fromarray(TWELVE), "TIFF", tiffinfo={262: 0, 281: 4095})
    np.testing.assert_array_equal(read_image(content)[..., 0], np.rint((4095 - TWELVE.astype(int)) / 4095 * 255))


def test_headers_say_how_deep_files_are_and_whether_they_say_what_is_used():
    wide = Image.fromarray(TWELVE)
    silent = [encoded_as(wide, "PNG"), encoded_as(wide, "TIFF"), _wide_color(np.ones((4, 4, 3), ">u2"))]
    assert [read_header(content)[3:] for content in silent] == [(True, False)] * 3
    stated = [content for kind, content in _GIVEN_AS_12_BITS.items() if kind != "PGM"]
    assert [read_header(content)[3:] for content in stated] == [(True, True)] * len(stated)
    shallow = [
        encoded_as(Image.fromarray(GRAY), "PNG"),
        encoded_as(Image.fromarray(COLOR), "TIFF"),
        _GIVEN_AS_12_BITS["PGM"],
    ]
    shallow.append(encoded_as(Image.fromarray(COLOR), "BMP"))
    assert [read_header(content)[3:] for content in shallow] == [(False, False)] * len(shallow)


def test_images_that_leave_most_of_16_bits_unused_are_counted(capsys):
    bright = np.full((4, 4, 3), 4500, ">u2")
    files = [
        _wide_color(bright),
        _wide_color(np.full((4, 4, 3), 4095, ">u2")),
        encoded_as(Image.fromarray(GRAY), "PNG"),
    ]
    files += [_GIVEN_AS_12_BITS["PNG with sBIT, not scaled"], encoded_as(Image.fromarray(TWELVE), "TIFF")]

    def warn(files):
        warn_of_few_levels(
            "scans", len(files), lambda index: read_header(files[index]), lambda index: read_image(files[index])
        )
        return capsys.readouterr().err

    assert warn(files).startswith("scans: 2 of 3 images with 16 bits that were looked at stay below 4,096")
    assert warn(files * 1000).count("\n") == 1
    assert warn([files[0], *files[2:4]]) == ""


@pytest.mark.parametrize(
    ("array", "message"),
    [(np.ones((2, 2), np.float32), "floating-point"), (np.full((2, 2), 70_000, np.int32), "32-bit")],
)
def test_pixels_without_a_defined_white_are_refused(array, message):
    with pytest.raises(ValueError, match=rf"x\.tif .*{message}.*8 or 16 bits"):
        read_image(encoded_as(Image.fromarray(array), "TIFF"), "x.tif")
