import http.server
import io
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from small_tiny_imagenet import NUM_TRAIN, NUM_VAL, WNIDS, _jpeg, _official

from cvx.data import load
from cvx.data.readers import tiny_imagenet


def _write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny-imagenet-200/", "")
        for name, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)


def _write_folder(root, files):
    for name, content in files.items():
        path = root / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture(params=["zip", "folder"])
def write(request):
    if request.param == "zip":
        return lambda root, files: _write_zip(root / "tiny-imagenet-200.zip", files)
    return _write_folder


def _pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_zip_and_folder_give_the_annotated_images_with_gray_ones_as_color(write, tmp_path, capsys):
    files = _official()
    write(tmp_path, files)
    source = tiny_imagenet.source(tmp_path)
    train, test = source.parts["train"], source.parts["test"]
    assert len(train.images) == NUM_TRAIN * len(WNIDS)
    assert train.labels.tolist() == sorted(list(range(len(WNIDS))) * NUM_TRAIN)
    for label, wnid in enumerate(WNIDS):
        for i in (0, 3, 10):
            expected = _pixels(files[f"train/{wnid}/images/{wnid}_{i}.JPEG"])
            np.testing.assert_array_equal(train.images[label * NUM_TRAIN + i], expected)
    for i, line in enumerate(files["val/val_annotations.txt"].decode().splitlines()):
        name, wnid = line.split("\t")[:2]
        assert test.labels[i] == WNIDS.index(wnid)
        np.testing.assert_array_equal(test.images[i], _pixels(files[f"val/images/{name}"]))
    assert "48 + 8 images, the official set has 100,000 + 10,000" in capsys.readouterr().err


def test_class_names_are_the_first_synonym_and_unique(write, tmp_path):
    write(tmp_path, _official())
    assert tiny_imagenet.source(tmp_path).classes == (
        "Egyptian cat",
        "goldfish",
        "crane (n02012849)",
        "crane (n03126707)",
    )


def test_a_class_without_words_keeps_its_id():
    assert tiny_imagenet.class_names(["n1", "n2"], "n2\tfish, wet thing\n") == ("n1", "fish")


def test_many_threads_read_the_same_images(write, tmp_path):
    write(tmp_path, _official())
    images = tiny_imagenet.source(tmp_path).parts["train"].images
    alone = [images[i] for i in range(len(images))]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(images.__getitem__, list(range(len(images))) * 4))
    for i, image in enumerate(together):
        np.testing.assert_array_equal(image, alone[i % len(images)])


def test_the_fingerprint_is_the_contents_and_not_the_copys(tmp_path):
    files = _official()
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    _write_zip(tmp_path / "a" / "tiny-imagenet-200.zip", files)
    _write_zip(tmp_path / "b" / "tiny-imagenet-200.zip", dict(reversed(files.items())))
    files["train/n01443537/images/n01443537_3.JPEG"] = _jpeg(5)
    _write_zip(tmp_path / "c" / "tiny-imagenet-200.zip", files)
    first, second, third = (tiny_imagenet.source(tmp_path / name).fingerprint for name in "abc")
    assert first == second != third


def test_a_changed_file_in_the_folder_changes_the_fingerprint(tmp_path):
    _write_folder(tmp_path, _official())
    before = tiny_imagenet.source(tmp_path).fingerprint
    assert tiny_imagenet.source(tmp_path).fingerprint == before
    path = tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_bytes(path.read_bytes().replace(b"n01443537", b"n02124075"))
    assert tiny_imagenet.source(tmp_path).fingerprint != before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("wnids.txt", r"lacks wnids\.txt"),
        ("words.txt", r"lacks words\.txt"),
        ("val/val_annotations.txt", r"lacks val/val_annotations\.txt"),
        ("val/images/val_3.JPEG", r"val_annotations\.txt .* names 'val_3\.JPEG"),
    ],
)
def test_a_missing_file_is_named(write, path, message, tmp_path):
    files = _official()
    del files[path]
    write(tmp_path, files)
    with pytest.raises(ValueError, match=message):
        tiny_imagenet.source(tmp_path)


def test_a_class_without_images_is_named(write, tmp_path):
    files = {path: content for path, content in _official().items() if not path.startswith("train/n02012849/images")}
    write(tmp_path, files)
    with pytest.raises(ValueError, match=r"no images in train/n02012849/images \(1 such classes\)"):
        tiny_imagenet.source(tmp_path)


def test_a_damaged_image_is_named_with_its_archive(write, tmp_path):
    files = _official()
    files["train/n02124075/images/n02124075_0.JPEG"] = b"no jpeg"
    write(tmp_path, files)
    with pytest.raises(ValueError, match=r"train/n02124075/images/n02124075_0\.JPEG in .*tiny-imagenet-200"):
        tiny_imagenet.source(tmp_path).parts["train"].images[0]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_zip_is_an_error_that_says_what_to_do(share, tmp_path):
    path = tmp_path / "tiny-imagenet-200.zip"
    _write_zip(path, _official())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"tiny-imagenet-200\.zip is damaged .*delete it and run again"):
        tiny_imagenet.source(tmp_path)


def test_a_flipped_bit_in_the_zip_is_found_when_the_image_is_read(tmp_path):
    path = tmp_path / "tiny-imagenet-200.zip"
    files = _official()
    _write_zip(path, files)
    jpeg = files["train/n02124075/images/n02124075_0.JPEG"]
    path.write_bytes(path.read_bytes().replace(jpeg, jpeg[:-3] + b"\0" + jpeg[-2:]))
    with pytest.raises(ValueError, match=r"damaged .*n02124075_0\.JPEG: Bad CRC"):
        tiny_imagenet.source(tmp_path).parts["train"].images[0]


@pytest.fixture
def mirror(tmp_path):
    """A server on this machine that holds a small zip, which breaks off in the middle of the first answer."""
    path = tmp_path / "mirror.zip"
    _write_zip(path, _official())
    content = path.read_bytes()
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Range"))
            start = int((asked[-1] or "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:] if start else content[: len(content) // 2])

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/tiny-imagenet-200.zip", len(content), asked
        server.shutdown()
        thread.join()


def test_what_is_not_there_is_downloaded_with_a_line_and_resumed(mirror, tmp_path, capsys):
    url, size, asked = mirror
    root = tmp_path / "root"
    source = tiny_imagenet.source(root, url, size)
    assert len(source.parts["train"].images) == NUM_TRAIN * len(WNIDS)
    assert asked == [None, f"bytes={size // 2}-"]
    said = capsys.readouterr().err
    assert f"downloading {url}" in said
    assert str(root / "tiny-imagenet-200.zip") in said
    assert tiny_imagenet.source(root, url, size).fingerprint == source.fingerprint
    assert len(asked) == 2


def test_without_data_and_network_one_error_names_every_way(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        tiny_imagenet.source(tmp_path, "http://127.0.0.1:9/tiny-imagenet-200.zip")
    expected = [
        f"tiny_imagenet is not in {tmp_path}",
        "no connection",
        "put tiny-imagenet-200.zip (from http://127.0.0.1:9/tiny-imagenet-200.zip)",
        "unpacked folder tiny-imagenet-200",
        "goes on where it broke off",
    ]
    assert [text for text in expected if text not in str(error.value)] == []


def test_it_loads_by_name_and_says_that_val_is_the_test_split(write, tmp_path):
    write(tmp_path, _official())
    splits = load("tiny_imagenet", tmp_path, val_fraction=0.2)
    assert splits.train.images.shape[1:] == (64, 64, 3)
    assert len(splits.test) == NUM_VAL * len(WNIDS)
    assert "val part serves as test" in splits.info.note
