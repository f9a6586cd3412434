"""Processes are real ones: they share `scripted`, a source that tells a file of every image it decodes, and whose last
image waits for a file called the gate."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cvx.data.cache import fingerprint_of, materialize
from cvx.data.dataset_types import Info, Part, Source
from cvx.data.make_splits import stratified_order
from cvx.data.npy_writer import NpyAppender
from cvx.data.transforms import fit_image, fit_mask

INFO = Info("Toy", "CC0", "nobody", flip=True)

SCRIPT = """
import os, sys, time
from pathlib import Path
import numpy as np
from cvx.data.cache import materialize
from cvx.data.dataset_types import Info, Part, Source

class Told:
    def __init__(self, log, num, gate):
        self.log, self.num, self.gate = log, num, gate
    def __len__(self):
        return self.num
    def __getitem__(self, index):
        with open(self.log, "a") as log:
            log.write(f"{os.getpid()}\\n")
        while index == self.num - 1 and self.gate and not os.path.exists(self.gate):
            time.sleep(0.01)
        return np.full((16, 16, 3), index % 251, np.uint8)

def scripted(log, num=60, gate=""):
    labels = np.arange(num, dtype=np.int64) % 3
    return Source({"train": Part(Told(log, num, gate), labels)}, ("a", "b", "c"), "f00d", 16, Info("Toy", "", "", True))
"""
exec(SCRIPT)


def toy(num=40, size=6, channels=3, fingerprint="ab", masks=True):
    random = np.random.default_rng(num)
    images = random.integers(0, 256, (num, size, size, channels), np.uint8)
    part = Part(images, np.arange(num) % 4, images[..., 0] > 99 if masks else None)
    return Source(
        {"train": part, "test": Part(list(images[:12]), part.labels[:12])}, tuple("wxyz"), fingerprint, size, INFO
    )


@pytest.fixture
def run():
    """Start processes; what a failed test leaves running is killed."""
    started = []

    def start(code, *arguments):
        command = [sys.executable, "-c", SCRIPT + code, *map(str, arguments)]
        process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            process.communicate()


def finished(process):
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output


def entries(root):
    """What lies in the cache but the locks, which stay."""
    return [path.name for path in (root / "cache").iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_arrays_are_the_source_in_stratified_order(tmp_path, channels):
    source = toy(channels=channels)
    parts = materialize(source, tmp_path, "toy", 6)
    assert set(parts) == {"train", "test"}
    for name, part in source.parts.items():
        split = parts[name].split
        assert np.array_equal(split.ids, stratified_order(part.labels))
        assert np.array_equal(split.labels, part.labels[split.ids])
        assert np.array_equal(split.images, np.stack([part.images[index] for index in split.ids]))
    assert np.array_equal(parts["train"].split.masks, source.parts["train"].masks[parts["train"].split.ids])
    assert parts["test"].split.masks is None


def test_images_and_masks_of_another_size_are_fitted(tmp_path):
    source = toy(size=10)
    split = materialize(source, tmp_path, "toy", 7)["train"].split
    part = source.parts["train"]
    assert np.array_equal(split.images, np.stack([fit_image(part.images[index], 7) for index in split.ids]))
    assert np.array_equal(split.masks, np.stack([fit_mask(part.masks[index], 7) for index in split.ids]))


def test_images_of_many_sizes_become_one_array(tmp_path):
    images = [np.full((3 + index, 9 - index, 3), index, np.uint8) for index in range(6)]
    source = Source({"train": Part(images, np.arange(6) % 2)}, ("a", "b"), "ab", 0, INFO)
    split = materialize(source, tmp_path, "toy", 5)["train"].split
    assert split.images.shape == (6, 5, 5, 3)
    assert np.array_equal(split.images[:, 0, 0, 0], split.ids)


def test_the_arrays_are_read_only_maps_of_the_files(tmp_path):
    split = materialize(toy(), tmp_path, "toy", 6)["train"].split
    for array in (split.images, split.labels, split.ids, split.masks):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_moments_give_the_mean_and_std_of_any_slice(tmp_path):
    part = materialize(toy(), tmp_path, "toy", 6)["train"]
    sums, squares = part.moments[5:17].sum(0) / (12 * 36)
    pixels = part.split.images[5:17].astype(np.float64)
    np.testing.assert_allclose(sums, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(np.sqrt(squares - sums**2), pixels.std((0, 1, 2)), rtol=1e-9)


def test_what_is_cached_is_not_decoded_again(tmp_path):
    log = tmp_path / "log"
    first = materialize(scripted(log), tmp_path, "toy", 16)
    decoded = log.read_text()
    again = materialize(scripted(log), tmp_path, "toy", 16)
    assert log.read_text() == decoded
    assert np.array_equal(first["train"].split.images, again["train"].split.images)


def test_every_source_size_and_name_has_its_own_folder(tmp_path):
    materialize(toy(), tmp_path, "toy", 6)
    materialize(toy(), tmp_path, "toy", 4)
    materialize(toy(fingerprint="cd"), tmp_path, "toy", 6)
    materialize(toy(), tmp_path, "other", 6)
    assert len(entries(tmp_path)) == 4
    assert f"toy-4-{fingerprint_of(toy(), 4)[:12]}" in entries(tmp_path)
    assert len({fingerprint_of(toy(), 4), fingerprint_of(toy(), 6), fingerprint_of(toy(fingerprint="cd"), 6)}) == 3


def test_an_image_that_cannot_be_decoded_is_named_and_nothing_stays(tmp_path):
    class Torn(list):
        def __getitem__(self, index):
            if index == 7:
                raise OSError("birds/wren/7.jpg is cut short")
            return super().__getitem__(index)

    images = Torn(np.zeros((20, 4, 4, 3), np.uint8))
    source = Source({"train": Part(images, np.arange(20) % 2)}, ("a", "b"), "ab", 4, INFO)
    with pytest.raises(ValueError, match=r"^birds/wren/7.jpg is cut short \(image 7 of train\)$"):
        materialize(source, tmp_path, "toy", 4)
    assert entries(tmp_path) == []


def test_gray_among_color_is_an_error_that_names_the_image(tmp_path):
    images = [np.zeros((4, 4, 3), np.uint8)] * 5 + [np.zeros((4, 4, 1), np.uint8)]
    source = Source({"train": Part(images, np.arange(6) % 2)}, ("a", "b"), "ab", 4, INFO)
    with pytest.raises(ValueError, match="image 5 of train has 1 channels, the first image has 3"):
        materialize(source, tmp_path, "toy", 4)
    assert entries(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "emptied", "removed", "no card", "bad card", "other count"])
def test_a_damaged_cache_is_written_again(tmp_path, damage):
    expected = materialize(toy(), tmp_path, "toy", 6)["train"].split.images.copy()
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    file = folder / "train" / "images.npy"
    if damage == "cut":
        os.truncate(file, file.stat().st_size - 1)
    elif damage == "emptied":
        os.truncate(file, 0)
    elif damage == "removed":
        file.unlink()
    elif damage == "other count":
        np.save(file, expected[:5])
    elif damage == "no card":
        (folder / "card.json").unlink()
    else:
        (folder / "card.json").write_text("{")
    assert np.array_equal(materialize(toy(), tmp_path, "toy", 6)["train"].split.images, expected)
    assert (folder / "card.json").exists()


PREPARE = (
    "num = 60 if len(sys.argv) < 5 else int(sys.argv[4]);"
    "source = scripted(sys.argv[2], num, sys.argv[3]);"
    "print(materialize(source, Path(sys.argv[1]), 'toy', 16)['train'].split.images.sum())"
)


def wait_for(what):
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_processes_that_start_at_once_decode_each_image_once(tmp_path, run):
    log, gate = tmp_path / "log", tmp_path / "gate"
    log.touch()
    code = PREPARE
    pair = [run(code, tmp_path, log, gate) for _ in range(2)]
    wait_for(lambda: len(log.read_text().split()) > 50)
    gate.touch()
    assert len({finished(process) for process in pair}) == 1
    told = log.read_text().split()
    assert len(set(told)) == 1, "both processes decoded"
    assert len(told) == 61, "60 images, and the first once more for its channels"
    assert len(entries(tmp_path)) == 1


def test_a_process_that_waits_says_for_what(tmp_path, run):
    log, gate = tmp_path / "log", tmp_path / "gate"
    code = PREPARE
    first = run(code, tmp_path, log, gate)
    wait_for(log.exists)
    second = run(code, tmp_path, log, gate)
    assert "another process is preparing" in second.stderr.readline()
    gate.touch()
    assert finished(first) == finished(second)


def test_a_process_killed_while_it_writes_leaves_nothing_that_is_taken_for_a_cache(tmp_path, run):
    log = tmp_path / "log"
    code = PREPARE
    process = run(code, tmp_path, log, tmp_path / "gate", 1000)
    wait_for(lambda: list(tmp_path.glob("cache/.*.building/train/images.npy")))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert all(name.endswith(".building") for name in entries(tmp_path)) and entries(tmp_path)
    split = materialize(scripted(log, 1000), tmp_path, "toy", 16)["train"].split
    assert np.array_equal(split.images[:, 0, 0, 0], split.ids % 251)
    assert not any(name.endswith(".building") for name in entries(tmp_path))


@pytest.mark.parametrize("stop", ["SIGKILL", "SIGINT"])
def test_a_stopped_process_leaves_what_it_saved_to_the_next_which_ends_with_the_same_files(tmp_path, run, stop):
    log = tmp_path / "log"
    code = (
        "from cvx.data import npy_writer\nnpy_writer.SAVE_EVERY_S = 0 if sys.argv[5] == 'SIGKILL' else 1e9\n" + PREPARE
    )
    process = run(code, tmp_path, log, tmp_path / "gate", 1000, stop)
    wait_for(lambda: log.exists() and len(log.read_text().split()) > 440)
    process.send_signal(getattr(signal, stop))
    if stop == "SIGINT":  # the image that is being decoded is waited for
        (tmp_path / "gate").touch()
    process.communicate()
    before = len(log.read_text().split())
    split = materialize(scripted(log, 1000), tmp_path, "toy", 16)["train"].split
    assert len(log.read_text().split()) - before < 700, "what was saved was decoded again"
    clean = materialize(scripted(log, 1000), tmp_path / "clean", "toy", 16)
    assert np.array_equal(split.images, clean["train"].split.images)
    (here,), (there,) = (list(root.glob("cache/toy-*")) for root in (tmp_path, tmp_path / "clean"))
    files = sorted(path.relative_to(here) for path in here.rglob("*.*"))
    assert files == sorted(path.relative_to(there) for path in there.rglob("*.*"))
    assert all((here / file).read_bytes() == (there / file).read_bytes() for file in files)


def test_a_mark_that_vouches_for_more_than_there_is_is_not_believed(tmp_path):
    arrays = {"images": (np.uint8, (5, 2)), "moments": (np.int64, (5, 1))}

    def write(rows):
        with NpyAppender(tmp_path, arrays) as growing:
            start = growing.num_saved
            for i in range(start, rows):
                growing.append(images=np.full((1, 2), i), moments=np.full((1, 1), i))
            growing.save()
            return start

    assert (write(3), write(5)) == (0, 3)
    assert np.load(tmp_path / "images.npy").tolist() == [[i, i] for i in range(5)]
    with (tmp_path / "moments.npy").open("r+b") as file:
        file.truncate(130)
    assert write(5) == 0
    assert np.load(tmp_path / "moments.npy").tolist() == [[i] for i in range(5)]


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_number_of_images(tmp_path, run):
    """20,000 images of 64 x 64 x 3 are 246 MB; the promise is 32 MB beyond the source."""
    code = """
import resource
class Noise:
    def __len__(self):
        return 20_000
    def __getitem__(self, index):
        return np.full((64, 64, 3), index % 256, np.uint8)
labels = np.arange(20_000, dtype=np.int64) % 200
source = Source({"train": Part(Noise(), labels)}, tuple(map(str, range(200))), "f00d", 64, Info("", "", "", True))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before = peak()
materialize(source, Path(sys.argv[1]), "noise", 64)
print(peak() - before)
"""
    pytest.importorskip("resource", reason="this system does not tell a process's peak memory")
    grown = int(finished(run(code, tmp_path)))
    assert grown < 32e6
    (file,) = tmp_path.glob("cache/*/train/images.npy")
    assert file.stat().st_size > 245e6


def test_a_disk_that_fills_is_one_clear_error_and_nothing_stays(tmp_path, run):
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    materialize(scripted(sys.argv[1], 1000), Path(sys.argv[2]), 'toy', 16)
except OSError as error:
    print(error)
"""
    pytest.importorskip("resource", reason="this system cannot limit the size of files")
    (tmp_path / "log").touch()
    said = finished(run(code.replace("sys.argv[1]", "os.devnull"), tmp_path / "log", tmp_path))
    assert "cannot write the array cache" in said and "--data=DIR" in said
    assert os.strerror(errno.EFBIG) in said
    assert entries(tmp_path) == []


def test_too_little_room_is_seen_before_anything_is_decoded(tmp_path):
    num = 10**11
    endless = np.broadcast_to(np.zeros((1, 1, 1), np.uint8), (num, 64, 64, 1))
    labels = np.broadcast_to(np.int64(0), num)
    source = Source({"train": Part(endless, labels)}, ("a", "b"), "ab", 64, INFO)
    with pytest.raises(OSError, match=r"409,600\.0 GB are needed and .* GB are free") as error:
        materialize(source, tmp_path, "toy", 64)
    assert error.value.errno == errno.ENOSPC
    assert entries(tmp_path) == []


def test_a_data_root_that_is_a_file_is_named(tmp_path):
    (tmp_path / "root").touch()
    with pytest.raises(
        OSError, match=r"cannot write the array cache .*root/cache/toy-6-\w{12}: .*--data=DIR or CVX_DATA"
    ):
        materialize(toy(), tmp_path / "root", "toy", 6)


@contextmanager
def ordinary_user():
    """Root may write anywhere, so a test of permissions must not run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of folders are POSIX's")
def test_a_read_only_root_gives_what_it_has_and_refuses_the_rest_clearly():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        expected = materialize(toy(), root, "toy", 6)["train"].split.images
        for folder in (root, root / "cache"):
            folder.chmod(0o555)
        try:
            with ordinary_user():
                assert np.array_equal(materialize(toy(), root, "toy", 6)["train"].split.images, expected)
                with pytest.raises(PermissionError, match="cannot write the array cache"):
                    materialize(toy(), root, "toy", 4)
        finally:
            for folder in (root, root / "cache"):
                folder.chmod(0o755)


def test_quick_work_shows_nothing(tmp_path, capsys):
    materialize(toy(), tmp_path, "toy", 6)
    assert capsys.readouterr() == ("", "")


def test_work_of_more_than_a_second_shows_one_line_in_a_log(tmp_path, capsys):
    labels = np.arange(200) % 2

    class Slow(list):
        def __getitem__(self, index):
            time.sleep(1.1 * (index == stratified_order(labels)[0]))
            return super().__getitem__(index)

    images = Slow(np.zeros((200, 4, 4, 3), np.uint8))
    materialize(Source({"train": Part(images, labels)}, ("a", "b"), "ab", 4, INFO), tmp_path, "slow", 4)
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("preparing slow-4-") and errors.endswith(": 200 images\n") and errors.count("\n") == 1
