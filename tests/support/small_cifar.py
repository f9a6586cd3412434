"""CIFAR in small, in exactly the official formats."""

import io
import pickle
import struct
import tarfile

import numpy as np

NAMES = {
    10: ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    100: [f"class_{i:02}" for i in range(100)],
}


FOLDERS = {10: "cifar-10-batches-py", 100: "cifar-100-python"}


ARCHIVES = {10: "cifar-10-python.tar.gz", 100: "cifar-100-python.tar.gz"}


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote for the official archives: text as byte strings, numpy by its old module."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def __init__(self, file):
        super().__init__(file, protocol=2)

    def save_string(self, text):
        data = text.encode() if isinstance(text, str) else text
        short = len(data) < 256
        self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) if short else b"T" + struct.pack("<i", len(data)))
        self.write(data)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string

    def save_global(self, obj, name=None):
        module, name = obj.__module__ or "numpy", name or obj.__name__
        self.write(f"c{module.replace('numpy._core', 'numpy.core')}\n{name}\n".encode())
        self.memoize(obj)

    dispatch[type] = save_global


def python2(content):
    buffer = io.BytesIO()
    Python2Pickler(buffer).dump(content)
    return buffer.getvalue()


def batch(num_classes, num, seed):
    data = np.random.default_rng(seed).integers(0, 256, (num, 3072), dtype=np.uint8)
    labels = [i % num_classes for i in range(num)]
    names = [f"image_{i}.png" for i in range(num)]
    if num_classes == 10:
        return {"batch_label": "a batch", "labels": labels, "data": data, "filenames": names}
    coarse = [label // 5 for label in labels]
    return {
        "filenames": names,
        "batch_label": "",
        "fine_labels": labels,
        "coarse_labels": coarse,
        "data": data,
    }


def official_set(num_classes):
    """The official set in small: member name to content."""
    if num_classes == 10:
        batches = {f"data_batch_{i}": batch(10, 20, i) for i in range(1, 6)} | {"test_batch": batch(10, 10, 9)}
        meta = {"num_cases_per_batch": 20, "label_names": NAMES[10], "num_vis": 3072}
        return batches | {"batches.meta": meta}
    meta = {"fine_label_names": NAMES[100], "coarse_label_names": [f"group_{i}" for i in range(20)]}
    return {"train": batch(100, 200, 1), "test": batch(100, 100, 2), "meta": meta}


def write_archive(path, num_classes, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in [("readme.html", b"<html>"), *files.items()]:
            member = tarfile.TarInfo(f"{FOLDERS[num_classes]}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_folder(root, num_classes, files):
    folder = root / FOLDERS[num_classes]
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
