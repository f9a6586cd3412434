"""A dataset's array cache damaged in each way is written again: no array is served that is not the source's."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import DAMAGES, SECRET, flip, folder, garbage, link, loop

from cvx import data
from cvx.data import npy_writer
from cvx.data.cache import NUM_LOOKED_AT
from cvx.data.dataset_types import Info, Part, Source

NUM = 60
"""Images: few enough for all of them to be compared with their moments."""
INFO = Info("Toy", "CC0", "nobody", flip=True)


def toy(num=NUM, stop_at=None):
    """Make a source with masks; with `stop_at`, somebody presses Ctrl-C as so many images have been decoded."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (num, 10, 10, 3), np.uint8)
    part = Part(Interrupted(images, stop_at), np.arange(num) % 4, images[..., 0] > 99)
    return Source({"train": part, "test": Part(images[:12], part.labels[:12])}, tuple("wxyz"), "ab", 10, INFO)


class Interrupted:
    def __init__(self, images, stop_at):
        self.images, self.stop_at, self.num = images, stop_at, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        self.num += 1
        if self.num == self.stop_at:
            raise KeyboardInterrupt
        return self.images[row]


def load(root, **options):
    return data.split_source(toy(**options), "toy", root, image_size=8)


def arrays_of(splits):
    """Return all that a dataset gives, as bytes."""
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    kept = {
        f"{name}/{kind}": None if (array := getattr(part, kind)) is None else array.tobytes()
        for name, part in parts.items()
        for kind in ("images", "labels", "ids", "masks")
    }
    return kept | {"mean": splits.mean, "std": splits.std}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return root, arrays_of(load(root))


@pytest.fixture
def half(tmp_path, monkeypatch):
    """A cache whose writing was stopped after its first 64 images."""
    monkeypatch.setattr(npy_writer, "SAVE_EVERY_S", 0)
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path / "half", num=150, stop_at=100)
    (building,) = (tmp_path / "half/cache").glob(".*.building")
    assert (building / "train/saved.json").is_file()
    return tmp_path / "half", arrays_of(load(tmp_path / "straight", num=150))


def files(root):
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")


def is_seen(name, damage):
    """Leave out the one damage that nobody can see: a bit of a mask, of which nothing else is known."""
    return not (damage is flip and name.name == "masks.npy")


def served_wrongly(kept, expected, tmp_path, damage, **options):
    """Damage one file after the other; name those after which a load gives other arrays than the source has."""
    random, wrong = np.random.default_rng(0), []
    for name in files(kept):
        root = shutil.copytree(kept, tmp_path / "data")
        damage(root / name, tmp_path, random)
        found = arrays_of(load(root, **options))
        wrong += [str(name)] if is_seen(name, damage) and found != expected else []
        assert not list(root.glob("cache/.*.building"))
        shutil.rmtree(root)
    assert all(path.read_text() == SECRET for path in tmp_path.glob("secret*")), "what a link leads to is left alone"
    return wrong


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_cache_whose_files_are_damaged_in_turn_gives_the_sources_arrays(whole, tmp_path, damage):
    assert served_wrongly(*whole, tmp_path, damage) == []


@pytest.mark.slow
def test_a_header_with_a_changed_bit_gives_the_sources_arrays(whole, tmp_path):
    (kept, expected), random, wrong = whole, np.random.default_rng(1), []
    root = shutil.copytree(kept, tmp_path / "data")
    for name in [name for name in files(kept) if name.suffix == ".npy" and "train" in name.parts]:
        for place in random.choice(128, 25, replace=False):
            content = bytearray((kept / name).read_bytes())
            content[place] ^= 1 << int(random.integers(8))
            (root / name).write_bytes(content)
            wrong += [f"{name} {place}"] if arrays_of(load(root)) != expected else []
    assert wrong == []


@pytest.mark.parametrize("kind", ["train/labels", "train/ids", "train/moments", "train/images"])
def test_a_changed_value_of_a_large_part_is_seen_in_all_but_its_pixels(tmp_path, kind):
    num = 10 * NUM_LOOKED_AT
    expected, random, seen = arrays_of(load(tmp_path, num=num)), np.random.default_rng(2), 0
    (path,) = tmp_path.glob(f"cache/toy-*/{kind}.npy")
    for _ in range(10):
        content = path.read_bytes()
        flip(path, tmp_path, random)
        assert path.read_bytes() != content
        load(tmp_path, num=num)
        seen += path.read_bytes() == content
        path.write_bytes(content)
    assert seen == 10 or kind == "train/images"
    assert arrays_of(load(tmp_path, num=num)) == expected


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_a_stopped_process_left_is_damaged_in_turn_and_the_next_one_ends_well(half, tmp_path, damage):
    assert served_wrongly(*half, tmp_path, damage, num=150) == []


def elsewhere(path, outside, random):
    """Put a link to a folder of somebody's own in a folder's place."""
    (outside / "own").mkdir()
    (outside / "own" / "train").write_text(SECRET)
    path.symlink_to(outside / "own")


def text(path, outside, random):
    path.write_bytes(b"")
    garbage(path, outside, random)


@pytest.mark.parametrize("damage", [text, elsewhere, link, loop], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "stopped"])
def test_what_lies_in_the_place_of_a_cache_makes_room_for_it(whole, tmp_path, damage, finished):
    (kept, expected), root = whole, tmp_path / "data"
    (name,) = (path.name for path in (kept / "cache").iterdir() if path.is_dir())
    (root / "cache").mkdir(parents=True)
    place = root / "cache" / (name if finished else f".{name}.building")
    if damage in (link, loop):
        place.touch()
    damage(place, tmp_path, np.random.default_rng(0))
    assert arrays_of(load(root)) == expected
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and root not in path.parents]
    assert all(path.read_text() == SECRET for path in outside) and not list((tmp_path / "own").glob("*.json"))


def test_a_lock_that_is_none_does_not_keep_a_finished_cache_and_is_named_where_there_is_none(whole, tmp_path):
    kept, expected = whole
    root = shutil.copytree(kept, tmp_path / "data")
    (lock,) = (root / "cache").glob(".*.lock")
    folder(lock, tmp_path, None)
    assert arrays_of(load(root)) == expected
    shutil.rmtree(next(path for path in (root / "cache").iterdir() if not path.name.startswith(".")))
    with pytest.raises(OSError, match="cannot write the array cache") as error:
        load(root)
    assert str(lock) in str(error.value) and Path(lock).is_dir()
