"""What visitors take from the demo and bring to it: rows saved as files, and images of their own."""

import base64
import io
import json
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr
from small_store import CLASSES

from cvx.plotting import colors
from demo.backend import map_rows
from demo.state.selection import Choice, Pick

# Files


def saved(line, choice, kind):
    from demo.components.map_grid import row_export

    found = row_export.save(row_export.keep((line, choice, choice.link({}))), kind)
    return base64.b64decode(found["content"])


def test_a_row_is_saved_as_picture_arrays_and_numbers(service):
    import csv

    choice = Choice(datasets=("tiles",), models=("resnet10t", "vit_tiny"), reduction="signed")
    (line,) = map_rows.make_rows(service, service.catalog(), choice, {"tiles": Pick(index=5)})
    arrays = np.load(io.BytesIO(saved(line, choice, "npz")))
    rows = list(csv.DictReader(io.StringIO(saved(line, choice, "csv").decode("utf-8-sig"))))
    about = json.loads(str(arrays["about"]))
    for k, cell in enumerate(line.cells):
        assert np.array_equal(arrays[f"attribution_{k}"], cell.explanation.attribution[0])
        assert np.allclose(arrays[f"map_{k}"], cell.explanation.attribution[0].sum(axis=0), atol=1e-6)
        assert np.array_equal(arrays[f"logits_{k}"], cell.explanation.logits[0])
        assert arrays[f"classes_{k}"].tolist() == list(CLASSES["tiles"])
        assert rows[k]["model"] == about["models"][k]["model"] == cell.explanation.reference
        assert float(rows[k]["l2_norm"]) == pytest.approx(np.linalg.norm(cell.explanation.attribution))
    picture = np.asarray(Image.open(io.BytesIO(saved(line, choice, "png"))))
    for cell in line.cells:
        for color in np.unique(colors.colorize(cell.scaled.values, True).reshape(-1, 3), axis=0)[::40]:
            assert (picture == color).all(axis=-1).any()


def test_a_saved_row_says_which_image_and_models_it_is_of_and_what_stood_beside_them(service, store):
    import csv

    choice = Choice(datasets=("tiles",), models=("resnet10t", "vit_tiny"))
    (line,) = map_rows.make_rows(service, service.catalog(), choice, {"tiles": Pick(index=5)})
    rows = list(csv.DictReader(io.StringIO(saved(line, choice, "csv").decode("utf-8-sig"))))
    about = json.loads(str(np.load(io.BytesIO(saved(line, choice, "npz")))["about"]))
    samples, cells = store.samples("tiles"), line.cells
    mask = samples.split.masks[5]
    heats = [np.abs(cell.explanation.attribution[0]).max(axis=0) for cell in cells]
    for k, (row, told) in enumerate(zip(rows, about["models"], strict=True)):
        assert row["samples_fingerprint"] == told["samples_fingerprint"] == samples.fingerprint
        assert (int(row["sample_index"]), int(row["sample_id"])) == (5, samples.split.ids[5])
        assert (
            row["weights_sha256"] == told["weights_sha256"] == store.resolve(cells[k].explanation.reference).card.sha256
        )
        assert float(row["mass_on_mask"]) == pytest.approx(heats[k][mask].sum() / heats[k].sum(), rel=1e-5)
        assert float(row["mask_share"]) == pytest.approx(mask.mean())
    assert rows[0]["spearman"] == rows[0]["spearman_with"] == "" and rows[1]["spearman_with"] == "resnet10t"
    alike = spearmanr(heats[0].ravel(), heats[1].ravel()).statistic
    assert float(rows[1]["spearman"]) == pytest.approx(alike, abs=1e-6)
    assert set(about["provenance"]) == {"created", "git_commit", "versions"}


def test_a_saved_row_of_an_upload_names_the_file_by_its_digest(service, tmp_path):
    import csv
    import hashlib

    Image.new("RGB", (9, 7), "red").save(tmp_path / "own.png")
    choice = Choice(datasets=("dots",), models=("resnet10t",), source="upload")
    (line,) = map_rows.make_rows(service, service.catalog(), choice, {}, tmp_path / "own.png")
    (row,) = csv.DictReader(io.StringIO(saved(line, choice, "csv").decode("utf-8-sig")))
    assert row["file_sha256"] == hashlib.sha256((tmp_path / "own.png").read_bytes()).hexdigest()
    assert row["sample_id"] == row["mask_share"] == ""
    assert saved(line, choice, "png").startswith(b"\x89PNG")


def test_a_row_that_is_no_longer_kept_or_has_no_answer_says_what_to_do(service):
    from demo.components.map_grid import row_export

    with pytest.raises(ValueError, match="Refresh"):
        row_export.save("unknown", "png")
    (line,) = map_rows.make_rows(service, service.catalog(), Choice(datasets=("dots",), models=("vit_tiny",)), {})
    with pytest.raises(ValueError, match="nothing to save"):
        saved(line, Choice(), "csv")


def test_a_spreadsheet_takes_no_name_for_a_formula(service):
    from dataclasses import replace

    (line,) = map_rows.make_rows(service, service.catalog(), Choice(datasets=("dots",), models=("resnet10t",)), {})
    line = replace(line, query=replace(line.query, classes=("=1+1",) * 3))
    assert b",'=1+1," in saved(line, Choice(), "csv")


# Uploads


def png_of(width, height):
    """Write a real black-and-white PNG of any size, row by row."""
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_an_upload_that_is_no_image_says_what_to_do(service, tmp_path):
    (tmp_path / "notes.png").write_text("shopping list")
    with pytest.raises(ValueError, match="not an image.*convert"):
        service.upload(tmp_path / "notes.png")


def test_an_upload_of_twenty_thousand_pixels_square_is_refused_before_it_is_decoded(service, tmp_path):
    (tmp_path / "huge.png").write_bytes(png_of(20_000, 20_000))
    begun = time.perf_counter()
    with pytest.raises(ValueError, match=r"too large.*smaller"):
        service.upload(tmp_path / "huge.png")
    assert time.perf_counter() - begun < 1


def uploads(folder):
    """Write images of every awkward kind; each is red on the left and blue on the right as people see it."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 255
    picture = Image.fromarray(pixels)
    picture.save(folder / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    picture.rotate(180).save(folder / "turned.png", exif=exif)
    picture.convert("RGBA").save(folder / "alpha.png")
    frames = [picture, Image.new("RGB", (40, 40), "white")]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    return {name: folder / name for name in ("plain.png", "turned.png", "alpha.png", "moving.gif")}


@pytest.mark.parametrize("name", ["plain.png", "turned.png", "alpha.png", "moving.gif"])
def test_an_upload_is_looked_at_as_people_see_it(service, tmp_path, name):
    query = service.upload(uploads(tmp_path)[name])
    left, right = query.image[20, 5], query.image[20, 35]
    assert left[0] > 200 > left[2] and right[2] > 200 > right[0]


@pytest.mark.parametrize(("name", "size"), [("tall.jpg", (40, 60)), ("clear.png", (60, 40))])
def test_an_upload_that_is_not_square_is_turned_upright_laid_over_white_and_cut_to_its_center(
    service, tmp_path, name, size
):
    wide = np.full((40, 60, 3), 255, np.uint8)
    wide[:, 10:50] = [255, 0, 0]  # what is left of it when both ends are cut off
    picture = Image.fromarray(wide)
    if name == "tall.jpg":  # a phone's: stored lying on its side, with a note to turn it
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(tmp_path / name, exif=exif, quality=95)
    else:  # red in the middle, and black that is wholly transparent at both ends
        wide[:, :10] = wide[:, 50:] = 0
        alpha = np.zeros((40, 60, 1), np.uint8)
        alpha[:, 10:50] = 255
        Image.fromarray(np.concatenate([wide, alpha], axis=2)).save(tmp_path / name)
    query = service.upload(tmp_path / name)
    assert query.caption == f"your image, {size[0]} × {size[1]} pixels, its center square"
    assert query.image.shape[:2] == size[::-1]
    assert (query.image[0, 0] > 200).all() and (query.image[-1, -1] > 200).all()  # the white ends
    choice = Choice(datasets=("tiles",), models=("resnet10t",), source="upload")
    (line,) = map_rows.make_rows(service, service.catalog(), choice, {}, tmp_path / name)
    seen = line.cells[0].explanation.images[0].astype(int)
    assert seen.shape == (16, 16, 3) and np.abs(seen - [255, 0, 0]).max() < 60


def test_an_upload_of_one_pixel_and_one_of_16_bits_are_looked_at(service, tmp_path):
    Image.new("RGB", (1, 1), "green").save(tmp_path / "dot.png")
    Image.fromarray(np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)).save(tmp_path / "deep.png")
    choice = Choice(datasets=("dots", "tiles"), models=("resnet10t",), source="upload")
    for name in ("dot.png", "deep.png"):
        lines = map_rows.make_rows(service, service.catalog(), choice, {}, tmp_path / name)
        assert [cell.explanation is not None for line in lines for cell in line.cells] == [True, True]
    deep = service.upload(tmp_path / "deep.png").image
    assert deep.max() == 255 and len(np.unique(deep)) > 200
