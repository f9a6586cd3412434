import gzip
import struct

import huggingface_hub.constants
import numpy as np
import pytest

from cvx.data import load
from cvx.data.readers import fashion_mnist

TRAIN, TEST = 100, 40
NOWHERE = fashion_mnist.DEBIAN / "not-there"


def _idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def _contents():
    random = np.random.default_rng(0)
    contents = {}
    for stem, num in (("train", TRAIN), ("t10k", TEST)):
        images = random.integers(0, 256, (num, 28, 28), dtype=np.uint8)
        contents[f"{stem}-images-idx3-ubyte"] = images
        contents[f"{stem}-labels-idx1-ubyte"] = (np.arange(num) % 10).astype(np.uint8)
    return contents


def _write(folder, packed=True, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in _contents().items():
        content = changed.get(name.replace("-", "_"), _idx(array))
        (folder / f"{name}.gz").write_bytes(gzip.compress(content)) if packed else (folder / name).write_bytes(content)


@pytest.mark.parametrize("place", ["fashion-mnist", "FashionMNIST/raw", "."])
@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_read_gzipped_or_not_wherever_people_keep_them(place, packed, tmp_path):
    _write(tmp_path / place, packed)
    source = fashion_mnist.source(tmp_path, NOWHERE)
    contents = _contents()
    for part, stem in (("train", "train"), ("test", "t10k")):
        images = contents[f"{stem}-images-idx3-ubyte"]
        np.testing.assert_array_equal(source.parts[part].images[5], images[5][..., None])
        np.testing.assert_array_equal(source.parts[part].labels, contents[f"{stem}-labels-idx1-ubyte"])
        assert len(source.parts[part].images) == len(images)
    assert source.image_size == 28
    assert source.classes[0] == "T-shirt/top"
    assert source.classes[9] == "Ankle boot"


def test_a_file_that_a_browser_unpacked_but_left_its_name_is_read(tmp_path):
    _write(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.decompress(path.read_bytes()))
    assert len(fashion_mnist.source(tmp_path, NOWHERE).parts["train"].images) == TRAIN


def test_copies_have_one_fingerprint_and_another_pixel_changes_it(tmp_path):
    images = _contents()["train-images-idx3-ubyte"]
    images[3, 4, 5] ^= 1
    _write(tmp_path / "a", packed=True)
    _write(tmp_path / "b", packed=False)
    _write(tmp_path / "c", train_images_idx3_ubyte=_idx(images))
    first, second, third = (fashion_mnist.source(tmp_path / name, NOWHERE).fingerprint for name in "abc")
    assert first == second != third


def test_the_data_root_comes_before_debians_package(tmp_path):
    _write(tmp_path / "debian")
    changed = _contents()["t10k-images-idx3-ubyte"][:0]
    _write(
        tmp_path / "root" / "fashion-mnist",
        t10k_images_idx3_ubyte=_idx(changed),
        t10k_labels_idx1_ubyte=_idx(np.zeros(0, np.uint8)),
    )
    (tmp_path / "empty").mkdir()
    assert len(fashion_mnist.source(tmp_path / "root", tmp_path / "debian").parts["test"].images) == 0
    assert len(fashion_mnist.source(tmp_path / "empty", tmp_path / "debian").parts["test"].images) == TEST


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_images_idx3_ubyte", b"", "not an IDX file of bytes in 3 dimensions"),
        ("train_images_idx3_ubyte", b"<!DOCTYPE html><html></html>", "not an IDX file"),
        (
            "train_images_idx3_ubyte",
            struct.pack(">4I", 2051, TRAIN, 28, 28) + bytes(784),
            "header says 78416",
        ),
        ("train_images_idx3_ubyte", struct.pack(">4I", 2051, 2**31, 28, 28) + bytes(784), "its header says"),
        (
            "train_images_idx3_ubyte",
            struct.pack(">4I", 2051, 2, 32, 32) + bytes(2048),
            r"\(32, 32\), expected \(28, 28\)",
        ),
        ("train_images_idx3_ubyte", struct.pack(">4I", 2049, 2, 28, 28) + bytes(1568), "not an IDX file"),
        (
            "train_images_idx3_ubyte",
            struct.pack(">4I", 2051, 2, 28, 28) + bytes(1568),
            "2 images, .* 100 labels",
        ),
        (
            "train_labels_idx1_ubyte",
            struct.pack(">2I", 2049, TRAIN) + bytes([10] * TRAIN),
            "label 10, but .* 0 to 9",
        ),
        (
            "train_labels_idx1_ubyte",
            struct.pack(">2I", 2049, TRAIN) + bytes([5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5, 3, 6, 1, 7]) + bytes(84),
            "has MNIST's digits",
        ),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused_and_named(name, content, message, tmp_path):
    _write(tmp_path, **{name: content})
    with pytest.raises(ValueError, match=f"{name.replace('_', '-')}.*{message}"):
        fashion_mnist.source(tmp_path, NOWHERE)


@pytest.mark.parametrize("keep", [10, 5000, -4])
def test_a_truncated_gzip_file_is_an_error_that_names_it(keep, tmp_path):
    _write(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is damaged .*get it again from https://"):
        fashion_mnist.source(tmp_path, NOWHERE)


def test_a_missing_file_is_named(tmp_path):
    _write(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match=r"lacks t10k-labels-idx1-ubyte\[\.gz\]"):
        fashion_mnist.source(tmp_path, NOWHERE)


def test_without_data_and_network_one_error_names_every_way(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError) as error:
        fashion_mnist.source(tmp_path, NOWHERE)
    expected = [
        f"fashion_mnist is not in {tmp_path}",
        *(f"{name}.gz" for name in _contents()),
        str(tmp_path / "fashion-mnist"),
        "apt install dataset-fashion-mnist",
        "hf download zalando-datasets/fashion_mnist",
    ]
    assert [text for text in expected if text not in str(error.value)] == []


def test_it_loads_by_name_with_one_channel_and_its_licence(tmp_path):
    _write(tmp_path)
    splits = load("fashion_mnist", tmp_path)
    assert splits.in_chans == 1
    assert splits.info.licence.startswith("MIT")
    assert "1708.07747" in splits.info.citation


@pytest.mark.skipif(
    not fashion_mnist.DEBIAN.is_dir(),
    reason="Debian's dataset-fashion-mnist is not installed (make setup-system)",
)
def test_debians_package_holds_the_published_set(tmp_path):
    source = fashion_mnist.source(tmp_path)
    train, test = source.parts["train"], source.parts["test"]
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    pixels = np.asarray(train.images, dtype=np.float32) / 255
    # The normalization that the field uses for this set.
    np.testing.assert_allclose([pixels.mean(), pixels.std()], [0.2860, 0.3530], atol=5e-5)
