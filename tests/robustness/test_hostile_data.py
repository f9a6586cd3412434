"""Archives and annotations of datasets with anything in them are read or refused by name, within bounds."""

import contextlib
import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile

import pytest
from damage import fuzz, mutations
from hypothesis import given
from hypothesis import strategies as st
from small_cifar import official_set, python2
from small_tiny_imagenet import _official as official_tiny

from cvx.data.readers import cifar, fashion_mnist, tiny_imagenet

IDX = struct.pack(">HBB3I", 0, 8, 3, 5, 4, 4) + bytes(range(80))


@fuzz
@given(data=st.data())
def test_an_idx_file_of_any_bytes_gives_bytes_of_the_shape_or_is_refused_by_name(tmp_path, data):
    packed = data.draw(st.booleans())
    file = tmp_path / "fuzzed.gz"
    content = data.draw(mutations(gzip.compress(IDX) if packed else IDX))
    file.write_bytes(content)
    try:
        assert fashion_mnist.read_idx(file, (4, 4)).shape[1:] == (4, 4)
    except ValueError as error:
        assert "fuzzed.gz" in str(error)


def test_a_gzip_bomb_is_refused_after_what_the_largest_file_would_have(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(2**20)) * 1000)
    with taking_at_most(2**28), pytest.raises(ValueError, match=r"bomb\.gz unpacks to more than"):
        fashion_mnist.read_idx(tmp_path / "bomb.gz", (28, 28))


@contextlib.contextmanager
def taking_at_most(num_bytes):
    """Hold what Python allocates within the block against a bound."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < num_bytes
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def cifar_members():
    return {name: python2(content) for name, content in official_set(10).items()}


def cifar_archive(path, members):
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@fuzz
@given(data=st.data())
def test_a_cifar_archive_with_any_member_changed_is_read_or_refused_by_name(tmp_path, cifar_members, data):
    name = data.draw(st.sampled_from(sorted(cifar_members)))
    content = cifar_members[name]
    head = data.draw(mutations(content[:200]))
    tail = data.draw(mutations(content[-200:]))
    cifar_archive(tmp_path / "cifar-10-python.tar.gz", {**cifar_members, name: head + content[200:-200] + tail})
    try:
        source = cifar.source(tmp_path, 10)
    except ValueError as error:
        assert str(tmp_path) in str(error) or name in str(error)
        return
    assert len(source.classes) == 10


@fuzz
@given(data=st.data())
def test_a_damaged_cifar_archive_is_read_or_refused_by_name(tmp_path, cifar_members, data):
    file = tmp_path / "cifar-10-python.tar.gz"
    cifar_archive(file, cifar_members)
    file.write_bytes(data.draw(mutations(file.read_bytes())))
    try:
        cifar.source(tmp_path, 10)
    except ValueError as error:
        assert "cifar-10" in str(error)


@pytest.fixture(scope="module")
def tiny_files():
    return official_tiny()


@fuzz
@given(data=st.data())
def test_tiny_imagenet_with_any_text_changed_is_read_or_refused_by_name(tmp_path, tiny_files, data):
    name = data.draw(st.sampled_from(["wnids.txt", "words.txt", "val/val_annotations.txt"]))
    files = {**tiny_files, name: data.draw(mutations(tiny_files[name]))}
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
        for path, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{path}", content)
    try:
        source = tiny_imagenet.source(tmp_path, url="http://127.0.0.1:9/none.zip")
    except ValueError as error:
        assert "tiny-imagenet" in str(error)
        return
    assert set(source.parts["test"].labels) <= set(range(len(source.classes)))


def test_a_zip_bomb_in_place_of_annotations_is_refused_unread(tmp_path, tiny_files):
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in tiny_files.items():
            archive.writestr(f"tiny-imagenet-200/{path}", bytes(2**27) if path.endswith("annotations.txt") else content)
    with taking_at_most(2**26), pytest.raises(ValueError, match="unpacks to 134,217,728 bytes"):
        tiny_imagenet.source(tmp_path, url="http://127.0.0.1:9/none.zip")


def test_annotations_that_lead_outside_are_refused(tmp_path, tiny_files):
    (tmp_path / "secret.JPEG").write_bytes(b"x")
    files = {**tiny_files, "val/val_annotations.txt": b"../../../secret.JPEG\tn02124075\t0\t0\t1\t1\n"}
    for path, content in files.items():
        file = tmp_path / "tiny-imagenet-200" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    with pytest.raises(ValueError, match="no such class or image"):
        tiny_imagenet.source(tmp_path, url="http://127.0.0.1:9/none.zip")
