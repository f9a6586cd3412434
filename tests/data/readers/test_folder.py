import os
import time

import numpy as np
import pytest
from PIL import Image
from small_images import save_birds, save_image

from cvx.data import load
from cvx.data.readers import folder


def test_class_folders_become_classes_in_the_order_of_their_names(tmp_path):
    save_image(tmp_path / "owl" / "b.png", "blue")
    save_image(tmp_path / "owl" / "a.jpg", "white")
    save_image(tmp_path / "duck" / "deep" / "er" / "c.bmp", "lime")
    source = folder.source(tmp_path)
    assert source.classes == ("duck", "owl")
    assert list(source.parts) == ["train"]
    train = source.parts["train"]
    assert train.labels.tolist() == [0, 1, 1]
    assert [image[0, 0].tolist() for image in train.images] == [[0, 255, 0], [255, 255, 255], [0, 0, 255]]
    assert source.image_size == 8


def test_a_set_of_12_bits_that_does_not_say_so_is_told_of_once_with_counts(tmp_path, capsys):
    for i in range(30):
        wide = np.full((4, 4), 4095 if i else 40_000, np.uint16)
        for name in ("owl", "duck"):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(wide).save(tmp_path / name / f"{i:02}.png")
    images = folder.source(tmp_path).parts["train"].images
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "15 of 16 images with 16 bits that were looked at stay below 4,096" in said
    assert "multiply the pixels by 16" in said and "MaxSampleValue 4095" in said
    assert [int(images[row].max()) for row in (0, 1)] == [156, 16]  # one scale for all


def test_a_set_of_12_bits_that_says_so_is_scaled_and_known_by_another_fingerprint(tmp_path, capsys):
    wide = np.linspace(0, 4095, 16).astype(np.uint16).reshape(4, 4)
    fingerprints = []
    for stated in ({}, {"tiffinfo": {281: 4095}}):
        for name in ("owl", "duck"):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(wide).save(tmp_path / name / "a.tif", **stated)
            file = (tmp_path / name / "a.tif").open("ab")
            with file:
                file.write(b"\0" * (400 - file.tell()))
            os.utime(tmp_path / name / "a.tif", ns=(0, 12345))
        source = folder.source(tmp_path)
        fingerprints.append(source.fingerprint)
    np.testing.assert_array_equal(source.parts["train"].images[0][..., 0], np.rint(wide / 4095 * 255))
    assert fingerprints[0] != fingerprints[1]
    assert capsys.readouterr().err.count("stay below 4,096") == 1


def test_images_of_many_formats_sizes_and_modes_are_read_as_color(tmp_path):
    files = ["a.png", "b.JPG", "c.gif", "d.webp", "e.tiff", "f.bmp", "g.ppm", "h.tga", "i.jp2"]
    for i, name in enumerate(files):
        save_image(tmp_path / "owl" / name, "red", size=(9 + i, 12))
    save_image(tmp_path / "duck" / "gray.png", 128, mode="L")
    save_image(tmp_path / "duck" / "alpha.png", (0, 0, 0, 0), mode="RGBA")
    save_image(tmp_path / "duck" / "wide.png", 32768, mode="I;16")
    save_image(tmp_path / "duck" / "palette.png", 0, mode="P")
    source = folder.source(tmp_path)
    images = list(source.parts["train"].images)
    assert source.image_size == 0
    assert [image[0, 0].tolist() for image in images[:4]] == [[255] * 3, [128] * 3, [0] * 3, [128] * 3]
    assert [image.shape for image in images[4:]] == [(12, 9 + i, 3) for i in range(len(files))]
    for image in images[4:]:
        np.testing.assert_allclose(image[5, 5], [255, 0, 0], atol=10)


def test_a_folder_of_gray_images_has_one_channel(tmp_path):
    save_birds(tmp_path, color=90, mode="L")
    images = folder.source(tmp_path).parts["train"].images
    assert {image.shape for image in images} == {(8, 8, 1)}
    save_image(tmp_path / "owl" / "color.png", "red")
    images = folder.source(tmp_path).parts["train"].images
    assert {image.shape for image in images} == {(8, 8, 3)}


def test_hidden_files_and_other_files_are_ignored_and_counted_in_one_line(tmp_path, capsys):
    save_birds(tmp_path)
    folder.source(tmp_path)
    assert capsys.readouterr().err == ""
    for name in (
        "owl/.DS_Store",
        "duck/._0.png",
        ".cache/x/a.png",
        "owl/notes.txt",
        "owl/raw.NEF",
        "owl/LICENSE",
        "a.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    source = folder.source(tmp_path)
    assert len(source.parts["train"].images) == 6
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    counts = ("3 hidden", "1 outside the class folders", "3 that are no images (no ending 1, .nef 1, .txt 1)")
    assert [text for text in counts if text not in said] == []


def test_an_unreadable_image_is_an_error_that_names_it(tmp_path):
    save_birds(tmp_path)
    (tmp_path / "owl" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"owl.1\.png is not an image"):
        list(folder.source(tmp_path).parts["train"].images)


def test_an_image_damaged_behind_its_header_is_an_error_that_names_it(tmp_path):
    save_birds(tmp_path)
    path = tmp_path / "owl" / "1.png"
    path.write_bytes(path.read_bytes()[:45])
    source = folder.source(tmp_path)
    with pytest.raises(ValueError, match=r"owl.1\.png cannot be read"):
        source.parts["train"].images[4]


def test_no_folder_and_a_file_in_its_place_are_errors(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        folder.source(tmp_path / "none")
    (tmp_path / "birds.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="is a file; unpack it"):
        folder.source(tmp_path / "birds.zip")


def test_links_are_followed_but_never_in_a_circle(tmp_path):
    save_birds(tmp_path / "set")
    save_image(tmp_path / "elsewhere" / "far.png", "blue")
    (tmp_path / "set" / "owl" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "owl" / "again").symlink_to(tmp_path / "set" / "owl")
    (tmp_path / "set" / "duck" / "gone.png").symlink_to(tmp_path / "none.png")
    source = folder.source(tmp_path / "set")
    assert source.parts["train"].labels.tolist() == [0] * 3 + [1] * 4


def _rename(path):
    (path / "owl" / "0.png").rename(path / "owl" / "9.png")


def _move(path):
    (path / "owl" / "0.png").rename(path / "duck" / "owl.png")


def _touch(path):
    os.utime(path / "owl" / "0.png", ns=(0, 12345))


def _resize(path):
    stat = (path / "owl" / "0.png").stat()
    save_image(path / "owl" / "0.png", size=(80, 80))
    os.utime(path / "owl" / "0.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _remove(path):
    (path / "owl" / "0.png").unlink()


@pytest.mark.parametrize("change", [_rename, _move, _touch, _resize, _remove])
def test_any_change_of_the_images_changes_the_fingerprint(change, tmp_path):
    save_birds(tmp_path)
    before = folder.source(tmp_path).fingerprint
    assert folder.source(tmp_path).fingerprint == before
    change(tmp_path)
    assert folder.source(tmp_path).fingerprint != before


def test_neither_the_place_of_the_folder_nor_other_files_matter_to_the_fingerprint(tmp_path):
    save_birds(tmp_path / "here")
    before = folder.source(tmp_path / "here").fingerprint
    (tmp_path / "here" / "owl" / "notes.txt").write_text("seen in May")
    (tmp_path / "here").rename(tmp_path / "there")
    assert folder.source(tmp_path / "there").fingerprint == before


def test_a_large_folder_is_listed_without_opening_its_images(tmp_path):
    for name in ("owl", "duck"):
        (tmp_path / name).mkdir()
        for i in range(2500):
            (tmp_path / name / f"{i}.png").touch()
    save_image(tmp_path / "duck" / "0.png", size=(5, 8))
    begin = time.process_time()
    source = folder.source(tmp_path)
    # 5,000 empty files: opening one would be an error, and the first header settles size and channels.
    assert len(source.parts["train"].images) == 5000
    assert time.process_time() - begin < 5


def test_it_loads_by_path_and_fits_images_of_other_sizes(tmp_path, capsys):
    save_birds(tmp_path / "my birds", num=20, size=(30, 20))
    splits = load(f"folder:{tmp_path / 'my birds'}", tmp_path, image_size=16)
    assert splits.train.images.shape[1:] == (16, 16, 3)
    assert splits.classes == ("duck", "owl")
    assert splits.info.flip
    assert len(splits.train) + len(splits.val) + len(splits.test) == 40
