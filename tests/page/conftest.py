"""Stores, models and runs that the page's tests show."""

import pytest
from browsing import browser, visit  # noqa: F401
from small_runs import add_runs
from small_store import make_store

from demo.backend.run_history import RunHistory
from demo.backend.service import ModelService


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Two datasets, three untrained models and three runs, shared: nobody writes into it."""
    store = make_store(tmp_path_factory.mktemp("demo") / "artifacts")
    add_runs(store)
    return store


@pytest.fixture
def service(store):
    return ModelService(store.root)


@pytest.fixture
def own_store(tmp_path):
    """The same models, for a test that changes or breaks them."""
    return make_store(tmp_path / "artifacts")


@pytest.fixture
def history(store):
    return RunHistory(store.root)


@pytest.fixture
def tiles(history):
    """The two runs of tiles, which have ended."""
    return history.run_list().of("tiles")


@pytest.fixture
def shown(service):
    return service.catalog().datasets["tiles"]
