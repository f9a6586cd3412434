"""What runs recorded while they trained, as tables: against the arrays they recorded, and scikit-learn."""

import csv

import numpy as np
import pytest
import recorded_run
from scipy.stats import spearmanr
from sklearn.metrics import silhouette_score
from small_store import make_store

from cvx import comparison
from cvx.__main__ import main
from cvx.store import Store

MODEL = f"tiles-{recorded_run.MODEL}"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("history")
    recorded_run.record(root)
    return Store(root)


def test_a_history_has_a_row_per_frame_with_accuracy_maps_masks_and_classes(store):
    [found] = comparison.training(store, [MODEL, f"{MODEL}:best"])
    rows = found.rows()
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["val/acc1"] for row in rows] == [0.375, 0.5, 0.375]
    assert rows[-1]["maps_like_final"] == pytest.approx(1)
    frames = [np.load(store.root / "runs" / "run-a" / "film" / f"{epoch:04d}.npz")["attribution"] for epoch in range(3)]
    alike = [spearmanr(*(np.abs(one[i]).max(axis=0).ravel() for one in frames[:2])).statistic for i in range(32)]
    assert np.isnan(rows[0]["maps_like_previous"]) and rows[1]["maps_like_previous"] == pytest.approx(np.mean(alike))
    masks = store.samples("tiles").split.masks[:32]
    assert rows[0]["mask_chance"] == pytest.approx(masks.mean())
    with np.load(store.root / "runs" / "run-a" / "film" / "0001.npz") as frame:
        maps = np.abs(frame["attribution"]).max(axis=1)
    mass = (maps * masks).sum((1, 2)) / maps.sum((1, 2))
    assert rows[1]["mask_mass"] == pytest.approx(mass.mean(), rel=1e-5)
    with np.load(store.root / "runs" / "run-a" / "embeddings" / "0001.npz") as frame:
        assert rows[1]["silhouette"] == pytest.approx(silhouette_score(frame["pca"], frame["labels"]), rel=1e-5)


def test_every_layout_of_the_test_logits_is_judged(store):
    rows = comparison.embeddings(store, [MODEL])
    assert [row["layout"] for row in rows] == ["pca", "tsne", "umap"]
    assert rows[0].keys() == {"model", "layout", "silhouette", "knn", "trustworthiness"}


@pytest.fixture
def two_runs(tmp_path):
    """A store of two runs of one dataset whose second one's logits are the first one's, turned, and some noise."""
    for name in ("run-a", "run-b"):
        recorded_run.record(tmp_path, name=name, last=False)
    path = tmp_path / "runs" / "run-b" / "embeddings" / "test.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    turned = arrays["pca"] @ np.array([[0, 2], [-2, 0]], np.float32) + 1
    noise = np.random.default_rng(1).standard_normal(turned.shape).astype(np.float32)
    np.savez(path, **{**arrays, "logits": 3 * arrays["logits"][:, ::-1], "pca": turned, "umap": noise})
    return Store(tmp_path)


def test_models_of_the_same_images_are_compared_by_logits_and_by_aligned_layouts(two_runs):
    [row] = comparison.alignment(two_runs, [f"{MODEL}:v0", f"{MODEL}:v1"])
    assert (row["first"], row["second"]) == (f"{MODEL}:v0", f"{MODEL}:v1")
    assert row["cka"] == pytest.approx(1) and row["pca"] == pytest.approx(1) and row["umap"] < 0.5
    first, second = comparison.layouts(two_runs, [f"{MODEL}:v0", f"{MODEL}:v1"])
    np.testing.assert_allclose(second.points["pca"], first.points["pca"], atol=1e-4)
    assert not np.allclose(second.points["umap"], first.points["umap"], atol=0.1)


def test_models_of_other_images_are_not_aligned(two_runs):
    path = two_runs.root / "runs" / "run-b" / "embeddings" / "test.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(path, **{**arrays, "ids": arrays["ids"] + 1})
    assert comparison.alignment(two_runs, [f"{MODEL}:v0", f"{MODEL}:v1"]) == []
    _, second = comparison.layouts(two_runs, [f"{MODEL}:v0", f"{MODEL}:v1"])
    np.testing.assert_array_equal(second.points["pca"], arrays["pca"])


def test_compare_writes_both(store, capsys):
    flags = [MODEL, "--measures=training,embeddings", f"--artifacts={store.root}", "--device=cpu"]
    assert main(["compare", *flags]) == 0
    folder = store.root / "compare" / f"{MODEL}@v0"
    assert {"training.csv", "training.png", "embeddings.csv", "embeddings.png"} <= {
        path.name for path in folder.iterdir()
    }
    with (folder / "training.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 3
    told = (folder / "findings.md").read_text()
    assert "accuracy has settled" in told and "distance between far clusters" in told


def test_compare_says_how_alike_two_models_arrange_the_images(two_runs, capsys):
    flags = [f"{MODEL}:v0", f"{MODEL}:v1", "--measures=embeddings", f"--artifacts={two_runs.root}", "--device=cpu"]
    assert main(["compare", *flags]) == 0
    assert "How alike two models arrange the test images" in capsys.readouterr().out
    [path] = two_runs.root.glob("compare/*/alignment.csv")
    assert float(next(csv.DictReader(path.read_text().splitlines()))["cka"]) == pytest.approx(1)


def test_a_model_whose_run_is_not_here_is_named(tmp_path, capsys):
    make_store(tmp_path)
    assert main(["compare", "tiles-vit_tiny", "--measures=training", f"--artifacts={tmp_path}"]) == 2
    assert "its run run-0 is not there" in capsys.readouterr().err


def test_a_run_that_did_not_end_has_no_embeddings_of_test(tmp_path):
    recorded_run.record(tmp_path)
    (tmp_path / "runs" / "run-a" / "embeddings" / "test.npz").unlink()
    with pytest.raises(ValueError, match="no embeddings of the test images"):
        comparison.embeddings(Store(tmp_path), [MODEL])
