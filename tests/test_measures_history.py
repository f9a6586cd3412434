"""What runs recorded while they trained, as tables: against the arrays they recorded, and scikit-learn."""

import csv

import numpy as np
import pytest
import recorded_run
from sklearn.metrics import silhouette_score
from small_store import make_store

from cvx import measures
from cvx.__main__ import main
from cvx.store import Store

MODEL = f"tiles-{recorded_run.MODEL}"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("history")
    recorded_run.record(root)
    return Store(root)


def test_a_history_has_a_row_per_frame_with_accuracy_maps_masks_and_classes(store):
    [found] = measures.training(store, [MODEL, f"{MODEL}:best"])
    rows = found.rows()
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["val/acc1"] for row in rows] == [0.375, 0.5, 0.375]
    assert rows[-1]["maps_like_final"] == pytest.approx(1)
    masks = store.samples("tiles").split.masks[:32]
    assert rows[0]["mask_chance"] == pytest.approx(masks.mean())
    with np.load(store.root / "runs" / "run-a" / "film" / "0001.npz") as frame:
        maps = np.abs(frame["attribution"]).max(axis=1)
    mass = (maps * masks).sum((1, 2)) / maps.sum((1, 2))
    assert rows[1]["mask_mass"] == pytest.approx(mass.mean(), rel=1e-5)
    with np.load(store.root / "runs" / "run-a" / "embeddings" / "0001.npz") as frame:
        assert rows[1]["silhouette"] == pytest.approx(silhouette_score(frame["pca"], frame["labels"]), rel=1e-5)


def test_every_layout_of_the_test_logits_is_judged(store):
    rows = measures.embeddings(store, [MODEL])
    assert [row["layout"] for row in rows] == ["pca", "tsne", "umap"]
    assert rows[0].keys() == {"model", "layout", "silhouette", "knn", "trustworthiness"}


def test_compare_writes_both(store, capsys):
    flags = [MODEL, "--measures=training,embeddings", f"--artifacts={store.root}", "--device=cpu"]
    assert main(["compare", *flags]) == 0
    folder = store.root / "compare" / f"{MODEL}@v0"
    assert {"training.csv", "training.png", "embeddings.csv"} <= {path.name for path in folder.iterdir()}
    with (folder / "training.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 3
    assert "accuracy has settled" in (folder / "findings.md").read_text()


def test_a_model_whose_run_is_not_here_is_named(tmp_path, capsys):
    make_store(tmp_path)
    assert main(["compare", "tiles-vit_tiny", "--measures=training", f"--artifacts={tmp_path}"]) == 2
    assert "its run run-0 is not there" in capsys.readouterr().err


def test_a_run_that_did_not_end_has_no_embeddings_of_test(tmp_path):
    recorded_run.record(tmp_path)
    (tmp_path / "runs" / "run-a" / "embeddings" / "test.npz").unlink()
    with pytest.raises(ValueError, match="no embeddings of the test images"):
        measures.embeddings(Store(tmp_path), [MODEL])
