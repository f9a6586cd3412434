"""A store that is asked for much at once; a test module asks for it with `pytest_plugins = ["many_tiles"]`."""

import pytest
from small_store import add_model, make_splits

from cvx.store import Store


@pytest.fixture(scope="module")
def many_tiles(tmp_path_factory):
    """Return a store of 400 images and two models of them."""
    store, tiles = Store(tmp_path_factory.mktemp("tiles") / "store"), make_splits("tiles", 400, 16, 3, True)
    store.add_samples(tiles)
    for model in ("resnet10t", "vit_tiny"):
        add_model(store, tiles, model)
    return store
