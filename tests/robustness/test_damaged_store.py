"""Each file of a store damaged in each way is named, and costs nothing else."""

import shutil

import numpy as np
import pytest
from damage import DAMAGES, SECRET, flip, gone, parent_is_file
from kept_store import files_of, make_kept_store

from cvx.store import Store, runs
from cvx.store.maintenance import examine


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_kept_store(tmp_path_factory.mktemp("kept") / "store").root


@pytest.fixture(scope="module")
def kept_files(whole):
    return files_of(whole)


def checked(names, damage):
    """Leave out tables when a bit flips: text for people has no checksum, and any letter may stand there."""
    return [name for name in names if damage is not flip or name.suffix not in (".csv", ".md")]


def is_named(found, path):
    """Say whether a problem stands at the file or at a folder above it that is one thing: a version, a run's part."""
    return any(one.level == "problem" and (path == one.where or one.where in path.parents) for one in found)


def assert_the_rest_works(root, damaged):
    """Read all that does not need the damaged file."""
    store = Store(root)
    for entry in store.models():
        if not damaged.is_relative_to(entry.folder):
            entry.load()
    if not damaged.is_relative_to(root / "samples"):
        assert len(store.samples("tiles").split) == 40
    for run in runs.list_runs(root):
        if not damaged.is_relative_to(run.folder):
            assert run.summary and run.rows()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_in_a_store_whose_every_file_is_damaged_each_is_named(whole, kept_files, tmp_path, damage):
    root, random = shutil.copytree(whole, tmp_path / "store"), np.random.default_rng(0)
    kept_files = checked(kept_files, damage)
    for name in kept_files:
        damage(root / name, tmp_path, random)
    found = list(examine(root))
    assert [str(name) for name in kept_files if not is_named(found, root / name)] == []
    assert all(SECRET not in one.what for one in found), "what a link leads to is not repeated"


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_damaged_file_is_named_in_turn_while_the_rest_works(whole, kept_files, tmp_path, damage):
    root, random, missed = shutil.copytree(whole, tmp_path / "store"), np.random.default_rng(0), []
    for name in checked(kept_files, damage):
        path = root / name
        damage(path, tmp_path, random)
        missed += [] if is_named(examine(root), path) else [str(name)]
        assert_the_rest_works(root, path)
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        shutil.copy2(whole / name, path)
    assert missed == []
    assert list(examine(root)) == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", [gone, parent_is_file], ids=lambda damage: damage.__name__)
def test_every_lost_file_that_something_needs_is_named(whole, kept_files, tmp_path, damage):
    # a frame, a result, a picture, a sweep's ledger may be gone: a store without them is whole
    needed = [name for name in kept_files if name.parts[0] in ("models", "samples") or name.name == "config.json"]
    for name in needed:
        root = shutil.copytree(whole, tmp_path / "store")
        damage(root / name, tmp_path, None)
        assert any(one.where == root / name or one.where in (root / name).parents for one in examine(root)), name
        assert_the_rest_works(root, root / name)
        shutil.rmtree(root)
