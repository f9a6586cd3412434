"""Tables of measures over a small real store, kept between calls."""

import dataclasses

import numpy as np
import pytest
from small_store import add_model, make_splits, make_store

from cvx import comparison
from cvx.comparison import Options
from cvx.metrics import agreement as maps_agreement
from cvx.store import Store

PAIR = ("tiles-resnet10t", "tiles-vit_tiny")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    store = make_store(root)
    add_model(store, make_splits("tiles", 40, 16, 3, True), "resnet10t", seed=1)
    rewrite_seed(store, "tiles-resnet10t", 1, 1)
    return root


def rewrite_seed(store, name, version, seed):
    """Say on a card which seed the model was trained from."""
    from cvx.files import read_json, write_json

    path = store.root / "models" / name / f"v{version}" / "card.json"
    write_json(path, {**read_json(path), "seed": seed})


@pytest.fixture
def store(root):
    return Store(root)


@pytest.fixture(scope="module")
def found(root):
    return comparison.agreement(Store(root), PAIR, Options(num=30))


def test_a_mean_is_bracketed_as_the_normal_law_says():
    values = np.random.default_rng(0).standard_normal(500) + 2
    one = comparison.interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(500)
    assert one.mean == pytest.approx(values.mean())
    assert one.low == pytest.approx(values.mean() - half, abs=0.02)
    assert one.high == pytest.approx(values.mean() + half, abs=0.02)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(1)
    held = [one.low <= 0 <= one.high for one in (comparison.interval(random.standard_normal(60)) for _ in range(200))]
    assert 0.89 < np.mean(held) < 0.99


@pytest.mark.parametrize("pair", [(0, 1), (1, 0)])
def test_a_floor_that_is_undefined_for_one_model_is_said_of_the_other(found, pair):
    edges = np.where(np.arange(2)[:, None] == 0, np.nan, 0.25) * np.ones(30)
    one = dataclasses.replace(found, floors={**found.floors, ("spearman", "sobel"): edges})
    assert "with the image's edges to at most 0.25," in one.sentence(*pair)


def test_undefined_images_are_left_out_and_counted():
    one = comparison.interval(np.array([np.nan, 1.0, 3.0, np.nan]))
    assert (one.mean, one.num, one.num_undefined) == (2.0, 2, 2)
    assert comparison.interval(np.array([np.nan])).text() == "–"
    single = comparison.interval(np.array([0.5]))
    assert single.text() == "0.50" and np.isnan(single.low)
    assert comparison.interval(np.full(9, -1e-9)).text() == "0.00 [0.00, 0.00]"


def test_agreement_is_that_of_the_two_models_maps(store, found):
    from cvx.maps.explanation import explain_images

    samples = store.samples("tiles")
    views = []
    for reference in PAIR:
        classifier, card = store.resolve(reference).load()
        split = samples.split.head(30)
        views.append(
            explain_images(reference, classifier, card, np.array(split.images), "label", np.array(split.labels))
        )
    expected = maps_agreement.compare(*(maps_agreement.map_features(view.attribution) for view in views))
    for name in found.names:
        np.testing.assert_allclose(found.values[name][0, 1], expected[name], atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(found.preds, [view.preds for view in views])


def test_the_matrix_is_symmetric_with_a_diagonal_of_one(found):
    assert found.columns == ("resnet10t", "vit_tiny")
    for name in found.names:
        matrix = found.matrix(name)
        np.testing.assert_allclose(np.diag(matrix), 1, atol=1e-9)
        np.testing.assert_array_equal(matrix, matrix.T)


def test_conditions_split_the_images_by_what_the_models_say(found):
    right = (found.preds == found.labels).all(axis=0)
    assert found.interval("spearman", 0, 1, "both_right").num == right.sum()
    disagree = found.preds[0] != found.preds[1]
    assert found.interval("spearman", 0, 1, "disagree").num == disagree.sum()
    assert found.interval("spearman", 0, 1).num == 30
    with pytest.raises(ValueError, match="unknown condition 'both'"):
        found.interval("spearman", 0, 1, "both")


def test_the_ceiling_is_the_same_recipe_from_another_seed(store, found):
    assert found.siblings == (("tiles-resnet10t:v0",), ()) or found.siblings == (("tiles-resnet10t:v1",), ())
    both = comparison.agreement(store, ["tiles-resnet10t:v0", "tiles-resnet10t:v1"], Options(num=30))
    assert both.columns == ("resnet10t:v0", "resnet10t:v1")
    assert found.ceiling("ssim", 0).mean == pytest.approx(both.matrix("ssim")[0, 1])
    assert found.ceiling("ssim", 1) is None


def test_the_floors_know_nothing_of_another_model(found):
    assert abs(found.floor("spearman", 0, "random").mean) < 0.1
    assert found.floor("cosine", 0, "random").mean == pytest.approx(0, abs=0.05)
    assert found.floor("spearman", 0, "other_image").num == 30


def test_rows_hold_every_number_once(found):
    rows = found.rows()
    assert len(rows) == len(found.names) * 3
    row = next(row for row in rows if row["measure"] == "hog" and row["condition"] == "all")
    assert row["mean"] == found.interval("hog", 0, 1).mean
    assert row["ceiling"] == found.ceiling("hog", 0).mean
    assert row["floor_sobel"] == np.mean([found.floor("hog", i, "sobel").mean for i in (0, 1)])


def test_the_images_on_which_models_disagree_most_come_first(found):
    rows = found.most_different(0, 1, k=5)
    values = found.values["spearman"][0, 1]
    np.testing.assert_array_equal(values[rows], np.sort(values)[:5])


def test_a_sentence_holds_the_ceiling_and_the_floor(found):
    text = found.sentence(0, 1)
    assert found.interval("spearman", 0, 1).text() in text and found.ceiling("spearman", 0).text() in text
    assert "edges" in text and "other images" in text


def test_what_was_computed_once_needs_no_weights_again(root, tmp_path):
    import shutil

    shutil.copytree(root, tmp_path / "copy")
    store = Store(tmp_path / "copy")
    first = comparison.agreement(store, PAIR, Options(num=12))
    for weights in store.root.glob("models/*/*/model.safetensors"):
        weights.unlink()
    again = comparison.agreement(store, PAIR[::-1], Options(num=12), names=["ssim"])
    np.testing.assert_array_equal(again.values["ssim"][1, 0], first.values["ssim"][0, 1])
    with pytest.raises(ValueError, match="holds no model.safetensors"):
        comparison.agreement(store, PAIR, Options(num=12, target="pred"))


def test_a_damaged_kept_file_is_made_anew(store, found):
    for path in (store.root / "measures" / "pairs").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:40])
    again = comparison.agreement(store, PAIR, Options(num=30))
    np.testing.assert_array_equal(again.values["hog"], found.values["hog"])


@pytest.mark.parametrize(
    ("references", "told"),
    [
        (["tiles-vit_tiny"], "only one; name a second model of tiles"),
        (["tiles-vit_tiny", "tiles-vit_tiny:latest"], "only one"),
        (["tiles-vit_tiny", "dots-resnet10t"], "name two or more models of one dataset"),
        ([*PAIR, "dots-resnet10t"], r"can be compared: tiles-resnet10t:v\d tiles-vit_tiny:v0"),
    ],
)
def test_what_cannot_be_compared_says_what_can(store, references, told):
    with pytest.raises(ValueError, match=told):
        comparison.agreement(store, references)


def test_options_are_checked():
    with pytest.raises(ValueError, match="num must be 1 image or more, got 0"):
        Options(num=0)
    with pytest.raises(ValueError, match="unknown target 'class'; known: label, pred"):
        Options(target="class")


def test_an_unknown_measure_lists_the_known_ones(store):
    with pytest.raises(ValueError, match="unknown measure 'mse'; known: spearman"):
        comparison.agreement(store, PAIR, names=["mse"])


def test_a_model_whose_images_outnumber_a_chunk_gives_the_same_numbers(store, found, monkeypatch):
    monkeypatch.setattr("cvx.comparison.request.PIXELS", 16 * 16 * 8)
    other = dataclasses.replace(Options(num=30), seed=5)  # another seed is not kept yet
    small = comparison.agreement(store, PAIR, other)
    for name in found.names:
        # batches of other sizes round differently, which swaps the ranks of pixels that are all but tied
        np.testing.assert_allclose(small.values[name], found.values[name], atol=2e-4, err_msg=name)


def test_properties_are_compared_between_datasets(store):
    table = comparison.properties(store, ["tiles-vit_tiny", "dots-resnet10t"], Options(num=24))
    assert table.datasets == ("tiles", "dots") and table.columns == ("tiles-vit_tiny", "dots-resnet10t")
    assert all(table.interval("gini", i).num == 24 for i in range(2))
    assert table.interval("mass_on_mask", 0).num == 24 and table.interval("mass_on_mask", 1).num == 0
    assert 0 < table.chance("mass_on_mask", 0) < 1 and np.isnan(table.chance("gini", 0))
    assert "pixel" in comparison.WHY_NOT_PIXELWISE


def test_results_of_an_older_version_are_computed_anew(tmp_path, monkeypatch):
    from cvx.comparison import result_cache
    from cvx.store import Store

    facts, arrays = {"model": "a"}, {"values": np.arange(3.0)}
    monkeypatch.setattr(result_cache, "VERSION", 2)  # when maps of single images could be wrong
    result_cache.save_cached(Store(tmp_path), "single", facts, arrays)
    np.testing.assert_array_equal(
        result_cache.load_cached(Store(tmp_path), "single", facts)["values"], arrays["values"]
    )
    monkeypatch.undo()
    assert result_cache.load_cached(Store(tmp_path), "single", facts) is None
