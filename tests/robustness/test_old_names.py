"""A store whose class names were no UTF-8 when it was written: they show replacement characters and harm nothing."""

import json

import pytest
from recorded_run import MODEL, record
from small_store import CLASSES, make_store
from wandb_arrivals import HASTY, WHERE

from cvx.__main__ import main
from cvx.store import Store
from cvx.tracking import publish
from demo.api import handlers
from demo.backend.service import ModelService

OLD = ("\udc94L", "\udc94M", "blue", "gray")
"""As Python names class folders of an archive from Japan."""
SHOWN = ("\ufffd94L", "\ufffd94M", "blue", "gray")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("old") / "artifacts"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CLASSES, "tiles", OLD)
        make_store(root)
        record(root)
    return Store(root)


def test_cards_and_samples_have_names_that_can_be_written(store):
    raw = (store.resolve("tiles-vit_tiny").folder / "card.json").read_text()
    assert r"\udc94L" in raw
    assert store.resolve("tiles-vit_tiny").card.classes == store.samples("tiles").classes == SHOWN


@pytest.mark.slow
def test_the_report_shows_them(store):
    assert main(["report", f"--artifacts={store.root}"]) == 0
    page = (store.root / "reports" / "report.html").read_text(encoding="utf-8")
    assert SHOWN[0] in page and SHOWN[1] in page


def test_the_endpoint_models_shows_them_beside_all_others(store):
    held = handlers.list_store(ModelService(store.root).catalog())
    assert len(held["models"]) == len(store.models())
    assert SHOWN[0] in json.dumps(held, ensure_ascii=False).encode().decode()


def test_maps_are_drawn_and_compared_under_them(store, capsys):
    root = f"--artifacts={store.root}"
    assert main(["attribute", "tiles-vit_tiny", root, "--per_class=1", "--device=cpu"]) == 0
    pictures = {path.name for path in (store.root / "attributions" / "tiles" / "tiles-vit_tiny").glob("*_*.png")}
    assert {"94L_0.png", "94M_0.png", "blue_0.png", "gray_0.png"} <= pictures
    given = ["tiles-vit_tiny", f"tiles-{MODEL}", "--num=8", "--device=cpu", "--measures=agreement"]
    assert main(["compare", *given, root]) == 0
    assert main(["doctor", root]) == 0, capsys.readouterr()


@pytest.mark.slow
def test_their_runs_are_published(store, wandb_server):
    assert publish(store.root / "runs" / "run-a", WHERE, HASTY).missing == ""
    held = json.dumps(wandb_server.run("maps", "run-a").fields)
    assert wandb_server.run("maps", "run-a").state == "finished" and "udc94" not in held
