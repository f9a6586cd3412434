import gzip
import os
import pickle
import tarfile

import huggingface_hub.constants
import numpy as np
import pytest
from small_cifar import ARCHIVES, FOLDERS, NAMES, batch, official_set, python2, write_archive, write_folder

from cvx.data import load
from cvx.data.readers import cifar


@pytest.fixture(params=[10, 100])
def num_classes(request):
    return request.param


@pytest.fixture
def files(num_classes):
    return {name: python2(content) for name, content in official_set(num_classes).items()}


@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")  # the official module name, read by numpy itself
def test_the_small_archives_read_as_the_official_page_says_to_read_the_real_ones(num_classes, files):
    name = {10: "data_batch_1", 100: "train"}[num_classes]
    read = pickle.loads(files[name], encoding="bytes")
    wrote = official_set(num_classes)[name]
    assert list(read) == [key.encode() for key in wrote]
    np.testing.assert_array_equal(read[b"data"], wrote["data"])


@pytest.mark.parametrize("packed", [True, False])
def test_the_official_files_are_read_packed_and_unpacked(num_classes, files, packed, tmp_path):
    if packed:
        write_archive(tmp_path / ARCHIVES[num_classes], num_classes, files)
    else:
        write_folder(tmp_path, num_classes, files)
    source = cifar.source(tmp_path, num_classes)
    official = official_set(num_classes)
    train = [official[name] for name in official if name.startswith(("data_batch", "train"))]
    test = [official[name] for name in official if name.startswith("test")]
    assert source.classes == tuple(NAMES[num_classes])
    assert source.image_size == 32
    for part, batches in (("train", train), ("test", test)):
        rows = np.concatenate([batch["data"] for batch in batches])
        labels = np.concatenate([batch.get("labels", batch.get("fine_labels")) for batch in batches])
        np.testing.assert_array_equal(source.parts[part].labels, labels)
        assert len(source.parts[part].images) == len(rows)
        for index in (0, len(rows) - 1):
            image = source.parts[part].images[index]
            assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
            # Row-major planes: red first, as the official page says.
            np.testing.assert_array_equal(image[..., 0].ravel(), rows[index][:1024])
            np.testing.assert_array_equal(image[..., 2].ravel(), rows[index][2048:])


def test_packed_and_unpacked_copies_have_one_fingerprint_and_another_image_changes_it(tmp_path):
    contents = official_set(10)
    roots = [tmp_path / name for name in ("packed", "unpacked", "changed")]
    for root in roots:
        root.mkdir()
    write_archive(roots[0] / ARCHIVES[10], 10, {name: python2(content) for name, content in contents.items()})
    write_folder(roots[1], 10, {name: python2(content) for name, content in contents.items()})
    contents["data_batch_3"]["data"][4, 5] ^= 1
    write_folder(roots[2], 10, {name: python2(content) for name, content in contents.items()})
    packed, unpacked, changed = (cifar.source(root, 10).fingerprint for root in roots)
    assert packed == unpacked != changed


def test_a_copy_pickled_again_by_python_3_is_read_too(tmp_path):
    contents = {
        name: {key.encode(): value for key, value in content.items()} for name, content in official_set(10).items()
    }
    write_folder(tmp_path, 10, {name: pickle.dumps(content, protocol=2) for name, content in contents.items()})
    source = cifar.source(tmp_path, 10)
    row = contents["data_batch_1"][b"data"][0]
    np.testing.assert_array_equal(source.parts["train"].images[0], row.reshape(3, 32, 32).transpose(1, 2, 0))


class _Reduced:
    """Pickles as a call of any function, with any state to set after it."""

    def __init__(self, function, arguments, *state):
        self.reduced = (function, arguments, *state)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_before_it_runs(protocol, tmp_path):
    files = {name: python2(content) for name, content in official_set(10).items()}
    files["test_batch"] = pickle.dumps({"data": _Reduced(os.system, (f"touch {tmp_path / 'owned'}",))}, protocol)
    write_archive(tmp_path / ARCHIVES[10], 10, files)
    with pytest.raises(ValueError, match=rf"test_batch in .*{ARCHIVES[10]}.*posix\.system.*only arrays"):
        cifar.source(tmp_path, 10)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (eval, ("open('owned', 'w')",)),
        (getattr, (1, "real")),
        (__import__, ("antigravity",)),
        (np.load, ("x.npy",)),
        (np.frombuffer, (b"1",)),
    ],
)
def test_builtin_functions_and_the_rest_of_numpy_are_refused(function, arguments, tmp_path):
    files = {name: python2(content) for name, content in official_set(10).items()}
    files["batches.meta"] = pickle.dumps({"label_names": _Reduced(function, arguments)})
    write_folder(tmp_path, 10, files)
    with pytest.raises(ValueError, match=r"batches\.meta in .* only arrays, lists and text"):
        cifar.source(tmp_path, 10)


def test_a_hostile_array_state_never_reaches_numpy(tmp_path):
    # numpy itself would read these eight bytes as an object's address.
    array = np.zeros((1, 3072), np.uint8).__reduce__()
    state = (1, (1, 3072), np.dtype("O"), False, b"\x41" * 8 * 3072)
    files = {name: python2(content) for name, content in official_set(10).items()}
    files["test_batch"] = python2({"data": _Reduced(array[0], array[1], state), "labels": [0]})
    write_folder(tmp_path, 10, files)
    with pytest.raises(ValueError, match="not an array of 3,072 bytes an image"):
        cifar.source(tmp_path, 10)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_truncated_archive_is_an_error_that_names_it_and_says_what_to_do(share, tmp_path):
    path = tmp_path / ARCHIVES[10]
    write_archive(path, 10, {name: python2(content) for name, content in official_set(10).items()})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=rf"{ARCHIVES[10]} is damaged.*delete it and download https://\S+ again"):
        cifar.source(tmp_path, 10)


def test_a_flipped_bit_in_the_archive_is_found_by_its_checksum(tmp_path):
    path = tmp_path / ARCHIVES[10]
    write_archive(path, 10, {name: python2(content) for name, content in official_set(10).items()})
    raw = bytearray(gzip.decompress(path.read_bytes()))
    good = gzip.compress(bytes(raw), mtime=0)
    raw[raw.index(b"image_3.png") + 3] ^= 1
    path.write_bytes(gzip.compress(bytes(raw), mtime=0)[:-8] + good[-8:])
    with pytest.raises(ValueError, match=r"is damaged.*CRC"):
        cifar.source(tmp_path, 10)


def test_members_that_reach_outside_are_never_written(tmp_path):
    files = {name: python2(content) for name, content in official_set(10).items()}
    root = tmp_path / "root"
    root.mkdir()
    write_archive(root / ARCHIVES[10], 10, files | {"../../escaped": b"x", "../cifar-10-batches-py/../../up": b"x"})
    with tarfile.open(root / "with_link.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    cifar.source(root, 10)
    assert sorted(tmp_path.rglob("*")) == before
    (root / "with_link.tar.gz").replace(root / ARCHIVES[10])
    with pytest.raises(ValueError, match=r"lacks .*test_batch"):
        cifar.source(root, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [10] * 20}, "numbers from 0 to 9"),
        ({"labels": [0] * 19}, "20 images, but 19 labels"),
        ({"data": np.zeros((20, 3071), np.uint8)}, "3,072 bytes an image"),
        ({"data": [1, 2]}, "3,072 bytes an image"),
        ({"data": np.zeros((20, 3072), np.float32)}, "3,072 bytes an image"),
    ],
)
def test_a_batch_that_does_not_say_what_cifar_says_is_refused(change, message, tmp_path):
    contents = official_set(10)
    contents["data_batch_2"] |= change
    write_folder(tmp_path, 10, {name: python2(content) for name, content in contents.items()})
    with pytest.raises(ValueError, match=f"does not hold CIFAR-10: .*{message}"):
        cifar.source(tmp_path, 10)


def test_garbage_and_an_incomplete_folder_are_errors_that_name_the_file(tmp_path):
    files = {name: python2(content) for name, content in official_set(10).items()}
    write_folder(tmp_path, 10, files | {"data_batch_4": b"<html>not found</html>"})
    with pytest.raises(ValueError, match=r"data_batch_4 in .* is damaged or not CIFAR's"):
        cifar.source(tmp_path, 10)
    (tmp_path / FOLDERS[10] / "data_batch_4").unlink()
    with pytest.raises(ValueError, match="lacks data_batch_4; unpack"):
        cifar.source(tmp_path, 10)
    write_archive(tmp_path / ARCHIVES[10], 10, files)
    assert len(cifar.source(tmp_path, 10).parts["train"].labels) == 100


def test_without_data_and_network_one_error_names_every_way(num_classes, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FileNotFoundError) as error:
        cifar.source(tmp_path, num_classes)
    expected = [
        f"cifar{num_classes} is not in {tmp_path}",
        "http://127.0.0.1:9",
        ARCHIVES[num_classes],
        "https://www.cs.toronto.edu/~kriz/",
        FOLDERS[num_classes],
        f"hf download uoft-cs/cifar{num_classes}",
        str(tmp_path / "hub" / f"uoft-cs--cifar{num_classes}"),
        "HF_HUB_OFFLINE=1",
    ]
    assert [text for text in expected if text not in str(error.value)] == []


def test_it_loads_by_name_and_knows_its_citation(num_classes, files, tmp_path):
    if num_classes == 100:
        files = {name: python2(content) for name, content in _more_rows(official_set(100)).items()}
    write_folder(tmp_path, num_classes, files)
    splits = load(f"cifar{num_classes}", tmp_path, val_fraction=0.2)
    assert splits.train.images.shape[1:] == (32, 32, 3)
    assert splits.num_classes == num_classes
    assert "Krizhevsky" in splits.info.citation
    assert splits.info.licence == "none stated by the authors"
    assert splits.info.flip


def _more_rows(contents):
    contents["train"] = batch(100, 500, 1)
    return contents
