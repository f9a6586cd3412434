"""Ways to damage a file, and inputs made to break what parses; the quick tests and the long ones share them."""

import os
import shutil
import struct
import zipfile

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

SECRET = "do not repeat me 5f3a"


def truncate(path, outside, random):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path, outside, random):
    path.write_bytes(b"")


def flip(path, outside, random):
    """Flip a bit that means something: in the first byte of text, the data of an archive, the middle of all else."""
    content = bytearray(path.read_bytes())
    text = path.suffix in (".json", ".jsonl", ".journal", ".html", ".tex")
    start, end = data_of(path) if path.suffix == ".npz" else (len(content) // 4, 3 * len(content) // 4)
    place = 0 if text else int(random.integers(start, end))
    content[place] ^= 1 << int(random.integers(8))
    path.write_bytes(content)


def data_of(path):
    """Return where the largest array of an .npz lies; around it stand dates and the like that nobody reads."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.compress_size)
    name, extra = struct.unpack("<HH", path.read_bytes()[largest.header_offset + 26 : largest.header_offset + 30])
    start = largest.header_offset + 30 + name + extra
    return start, start + largest.compress_size


def garbage(path, outside, random):
    path.write_bytes(random.integers(0, 256, path.stat().st_size, dtype=np.uint8).tobytes())


def link(path, outside, random):
    secret = outside / f"secret{path.suffix}"
    secret.write_text(SECRET)
    path.unlink()
    path.symlink_to(secret)


def loop(path, outside, random):
    path.unlink()
    path.symlink_to(path)


def folder(path, outside, random):
    path.unlink()
    path.mkdir()


def gone(path, outside, random):
    path.unlink()


def parent_is_file(path, outside, random):
    parent = path.parent
    shutil.rmtree(parent)
    parent.write_bytes(b"")


DAMAGES = (truncate, empty, flip, garbage, link, loop, folder)


def mutated(content, draw):
    """Change a few bytes of a valid file: overwrite, cut, insert."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["overwrite", "cut", "insert"]))
        few = draw(st.binary(min_size=1, max_size=8))
        if kind == "cut":
            del content[place:]
        elif kind == "insert":
            content[place:place] = few
        else:
            content[place : place + len(few)] = few
    return bytes(content)


@st.composite
def mutations(draw, content):
    return mutated(content, draw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
EXAMPLES = int(os.environ.get("CVX_EXAMPLES", "8"))
"""Of each fuzz test; `make test-long` asks for thousands."""

fuzz = settings(
    max_examples=EXAMPLES, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
"""How each fuzz test runs."""
