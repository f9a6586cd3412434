"""Tables of measures over a small real store, kept between calls."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from small_store import add_model, make_splits, make_store

from cvx import measures
from cvx.attribution import METHODS, to_heatmap
from cvx.attribution import agreement as maps_agreement
from cvx.attribution.agreement import compare, traits
from cvx.attribution.faithfulness import curves
from cvx.attribution.stability import max_sensitivity
from cvx.measures import Options, Sanity
from cvx.measures.film import FRAME_NUMBERS, MASK_NUMBERS, frame_numbers
from cvx.measures.trials import untrained
from cvx.records import Run, RunWriter
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
    return measures.agreement(Store(root), PAIR, Options(num=30))


def test_a_mean_is_bracketed_as_the_normal_law_says():
    values = np.random.default_rng(0).standard_normal(500) + 2
    one = measures.interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(500)
    assert one.mean == pytest.approx(values.mean())
    assert one.low == pytest.approx(values.mean() - half, abs=0.02)
    assert one.high == pytest.approx(values.mean() + half, abs=0.02)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(1)
    held = [one.low <= 0 <= one.high for one in (measures.interval(random.standard_normal(60)) for _ in range(200))]
    assert 0.89 < np.mean(held) < 0.99


def test_undefined_images_are_left_out_and_counted():
    one = measures.interval(np.array([np.nan, 1.0, 3.0, np.nan]))
    assert (one.mean, one.num, one.num_undefined) == (2.0, 2, 2)
    assert measures.interval(np.array([np.nan])).text() == "–"
    single = measures.interval(np.array([0.5]))
    assert single.text() == "0.50" and np.isnan(single.low)
    assert measures.interval(np.full(9, -1e-9)).text() == "0.00 [0.00, 0.00]"


def test_agreement_is_that_of_the_two_models_maps(store, found):
    from cvx.comparison import look

    samples = store.samples("tiles")
    views = []
    for reference in PAIR:
        classifier, card = store.resolve(reference).load()
        split = samples.split.head(30)
        views.append(look(reference, classifier, card, np.array(split.images), "label", np.array(split.labels)))
    expected = maps_agreement.compare(*(maps_agreement.traits(view.attribution) for view in views))
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
    both = measures.agreement(store, ["tiles-resnet10t:v0", "tiles-resnet10t:v1"], Options(num=30))
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
    first = measures.agreement(store, PAIR, Options(num=12))
    for weights in store.root.glob("models/*/*/model.safetensors"):
        weights.unlink()
    again = measures.agreement(store, PAIR[::-1], Options(num=12), ["ssim"])
    np.testing.assert_array_equal(again.values["ssim"][1, 0], first.values["ssim"][0, 1])
    with pytest.raises(ValueError, match="holds no model.safetensors"):
        measures.agreement(store, PAIR, Options(num=12, target="pred"))


def test_a_damaged_kept_file_is_made_anew(store, found):
    for path in (store.root / "measures" / "pairs").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:40])
    again = measures.agreement(store, PAIR, Options(num=30))
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
        measures.agreement(store, references)


def test_options_are_checked():
    with pytest.raises(ValueError, match="num must be 1 image or more, got 0"):
        Options(num=0)
    with pytest.raises(ValueError, match="unknown target 'class'; known: label, pred"):
        Options(target="class")


def test_an_unknown_measure_lists_the_known_ones(store):
    with pytest.raises(ValueError, match="unknown measure 'mse'; known: spearman"):
        measures.agreement(store, PAIR, names=["mse"])


def test_a_model_whose_images_outnumber_a_chunk_gives_the_same_numbers(store, found, monkeypatch):
    monkeypatch.setattr("cvx.measures.question.PIXELS", 16 * 16 * 8)
    other = dataclasses.replace(Options(num=30), seed=5)  # another seed is not kept yet
    small = measures.agreement(store, PAIR, other)
    for name in found.names:
        np.testing.assert_allclose(small.values[name], found.values[name], atol=1e-5, err_msg=name)


def test_properties_are_compared_between_datasets(store):
    table = measures.properties(store, ["tiles-vit_tiny", "dots-resnet10t"], Options(num=24))
    assert table.datasets == ("tiles", "dots") and table.columns == ("tiles-vit_tiny", "dots-resnet10t")
    assert all(table.interval("gini", i).num == 24 for i in range(2))
    assert table.interval("mass_on_mask", 0).num == 24 and table.interval("mass_on_mask", 1).num == 0
    assert 0 < table.chance("mass_on_mask", 0) < 1 and np.isnan(table.chance("gini", 0))
    assert "pixel" in measures.WHY_NOT_PIXELWISE


def test_localization_is_that_of_the_maps_with_its_chance(store):
    from cvx.attribution import localization, to_heatmap
    from cvx.comparison import look

    table = measures.localization(store, PAIR, Options(num=20))
    classifier, card = store.resolve(PAIR[1]).load()
    split = store.samples("tiles").split.head(20)
    view = look(PAIR[1], classifier, card, np.array(split.images), "label", np.array(split.labels))
    expected = localization.localize(to_heatmap(view.attribution), np.array(split.masks))
    for name in table.names:
        np.testing.assert_allclose(table.values[name][1], expected[name], atol=1e-6, err_msg=name)
    assert table.chance("mass", 1) == pytest.approx(split.masks.mean()) and table.chance("auc", 1) == 0.5


def test_localization_without_masks_is_an_error(store):
    with pytest.raises(ValueError, match="dots-resnet10t:v0 have no masks"):
        measures.localization(store, ["dots-resnet10t"])


def test_faithfulness_holds_every_test_beside_every_control(store):
    found = measures.faithfulness(store, ["dots-resnet10t"], Options(num=3))
    assert len(found.rows()) == len(found.tests) * len(measures.MAPS)
    curve = found.curve(0, "deletion_mean", "own")
    assert curve.shape == found.shares("deletion_mean").shape and (curve >= 0).all() and (curve <= 1).all()
    starts = [found.curve(0, "road_most", name)[0] for name in measures.MAPS]
    assert starts == pytest.approx([starts[0]] * len(starts))
    assert found.lead(0, "deletion_mean", "own").mean == 0
    assert "of 6 removal tests" in found.verdict(0)


@pytest.mark.slow
def test_sanity_ends_at_the_untrained_model_and_says_so(store):
    found = measures.sanity(store, PAIR, Options(num=4))
    assert found.blocks(0)[0] == "fc" and found.blocks(1)[0] == "head"
    for i in range(2):
        last = found.after(i, "spearman", found.blocks(i)[-1])
        assert last.num == 4 and abs(last.mean) < 0.6
        assert last.text() in found.verdict(i)
        noise, other = (found.floor(i, "spearman", kind) for kind in found.levels)
        assert noise.text() in found.verdict(i) and other.text() in found.verdict(i)
    assert {row["test"] for row in found.rows()} == {"after", "entropy", "class", "floor"}


@pytest.mark.parametrize(
    ("left", "other", "said"),
    [
        (0.0, 0.3, "no more is left than noise has"),
        (0.2, 0.5, "more is left than noise has.*but less than maps of two images share"),
        (0.5, 0.2, "more is left than noise has.*no less than maps of two images share"),
        (0.2, 0.2, "more is left than noise has.*no less than maps of two images share"),
    ],
)
def test_what_randomization_leaves_is_judged_by_noise_and_by_other_images(left, other, said):
    noise = np.random.default_rng(0).normal(0, 0.05, (4, 40))
    noise -= noise.mean(axis=1, keepdims=True)
    values = {f"after/{name}/fc": left + noise[0] for name in Sanity.names}
    values |= {f"floor/{name}/random": noise[1] for name in Sanity.names}
    values |= {f"floor/{name}/other_image": other + noise[2] for name in Sanity.names}
    values |= {f"class/{name}": noise[3] for name in Sanity.names}
    found = Sanity(Options(), ("m:v0",), ("m",), [{**values, "entropy": noise[3]}])
    assert re.search(said, found.verdict(0))
    assert found.lead(0, "other_image").mean == pytest.approx(left - other)


def test_a_model_whose_maps_are_all_zero_is_said_to_have_none():
    nothing = np.full(5, np.nan)
    keys = [f"{test}/{name}" for test in ("after", "class", "floor") for name in Sanity.names]
    values = {key + ("" if key.startswith("class") else "/fc"): nothing for key in keys}
    assert "no map is left" in Sanity(Options(), ("m:v0",), ("m",), [{**values, "entropy": nothing}]).verdict(0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["smoothgrad", "integrated_gradients"])
def test_sanity_stability_and_controls_are_of_the_method_that_is_asked_for(tmp_path, method):
    splits, explain, options, name = (
        make_splits("tiles", 4, 8, 1, False),
        METHODS[method],
        {"num": 2},
        "tiles-test_resnet",
    )
    store = Store(tmp_path)
    store.add_samples(splits)
    add_model(store, splits, "test_resnet")
    classifier = store.resolve(name).load()[0]
    split = splits.test.head(2)
    inputs, targets = torch.tensor(split.images).permute(0, 3, 1, 2) / 255, torch.tensor(split.labels)
    own, last = (explain(one, inputs, targets)[1].numpy() for one in (classifier, untrained(classifier, 0)))
    asked = Options(**options, method=method)
    sanity = measures.sanity(store, [name], asked)
    left = sanity.after(0, "spearman", sanity.blocks(0)[-1])
    assert left.mean == pytest.approx(compare(traits(own), traits(last))["spearman"].mean(), abs=1e-3)
    steady, plain = (
        measures.stability(store, [name], one).values["max_sensitivity"][0] for one in (asked, Options(**options))
    )
    expected = max_sensitivity(classifier, inputs, targets, explain=explain)
    np.testing.assert_allclose(steady, expected, rtol=1e-3)
    assert not np.allclose(steady, plain, rtol=1e-2), "each method's numbers are kept by themselves"
    control = curves(classifier, inputs, targets, to_heatmap(last, "max"), "deletion_mean")
    found = measures.faithfulness(store, [name], asked).curve(0, "deletion_mean", "randomized_model")
    np.testing.assert_allclose(found, control.mean(axis=0), atol=1e-3)


def test_an_untrained_model_is_not_what_a_run_with_a_small_seed_started_from(store):
    trained, _ = store.resolve("tiles-vit_tiny").load()  # stored as it was built after torch.manual_seed(0)
    for seed in range(3):
        blank = untrained(trained, seed)
        assert not torch.equal(blank.net.head.weight, trained.net.head.weight)


def test_an_untrained_model_has_its_branches_on_and_leaves_the_random_state_alone(store):
    classifier, _ = store.resolve("tiles-resnet10t").load()
    state = torch.get_rng_state()
    blank, same, other = untrained(classifier, 0), untrained(classifier, 0), untrained(classifier, 1)
    assert torch.equal(torch.get_rng_state(), state)
    weights = [dict(net.named_parameters()) for net in (blank, same, other)]
    assert all(value.abs().max() > 1e-3 for name, value in weights[0].items() if not name.endswith("bias"))
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not torch.equal(weights[0]["net.fc.weight"], weights[2]["net.fc.weight"])


def test_stability_is_of_the_first_images(store):
    table = measures.stability(store, ["tiles-vit_tiny"], Options(num=2))
    assert table.interval("max_sensitivity", 0).num == 2 and table.interval("max_sensitivity", 0).mean > 0


def test_a_film_says_when_its_maps_settle(tmp_path):
    random = np.random.default_rng(0)
    first, last = (random.standard_normal((8, 1, 6, 6), dtype=np.float32) for _ in range(2))
    writer = RunWriter.create(tmp_path / "run", {})
    for epoch, (maps, accuracy) in enumerate([(first, 0.1), (first, 0.9), (last, 0.9), (last, 0.9)]):
        writer.film(epoch, np.zeros(8, np.int64), np.zeros((8, 2), np.float32), maps)
        writer.log(epoch, epoch, {"val/acc1": accuracy})
    found = measures.through_training(Run(tmp_path / "run"))
    assert found.epochs == (0, 1, 2, 3) and found.accuracy == (0.1, 0.9, 0.9, 0.9)
    assert found.settled_at() == 1
    assert found.curve()[2:] == pytest.approx([1, 1]) and abs(found.curve()[1]) < 0.3
    assert "accuracy has settled by epoch 1 of 3" in found.sentence()
    assert "go on changing until epoch 2" in found.sentence()


def test_a_film_tells_where_its_maps_lie_epoch_by_epoch(tmp_path):
    masks = np.zeros((3, 6, 6), bool)
    masks[:, 2:4, 1:3] = True
    writer = RunWriter.create(tmp_path / "run", {})
    for epoch, maps in enumerate([~masks, masks]):
        noise = np.random.default_rng(epoch).random((3, 1, 6, 6), dtype=np.float32)
        writer.film(epoch, np.zeros(3, np.int64), np.zeros((3, 2), np.float32), maps[:, None] * (1 + noise))
    found = measures.through_training(Run(tmp_path / "run"), masks)
    np.testing.assert_allclose(found.on_mask["mass"], [[0] * 3, [1] * 3])
    assert found.settled_at() == -1 and "no accuracy" in found.sentence()
    assert measures.through_training(Run(tmp_path / "run")).on_mask == {}


def test_a_frames_numbers_leave_out_what_is_undefined_and_need_the_frame_before(tmp_path):
    run, writer = Run(tmp_path / "run"), RunWriter.create(tmp_path / "run", {})
    noise = 1 + np.random.default_rng(0).random((4, 1, 6, 6), dtype=np.float32)
    masks = np.zeros((4, 6, 6), bool)
    masks[:, :3] = True
    maps = noise * np.stack([masks[0], masks[0], masks[0], ~masks[0]])[:, None]
    before = maps * np.array([1, 1, 0, 1], np.float32)[:, None, None, None]
    assert frame_numbers(run, 0, maps, None) == {}
    assert frame_numbers(run, 0, np.zeros_like(maps), masks) == {"maps/mask_share": 0.5}
    writer.film(1, np.zeros(4, np.int64), np.zeros((4, 2), np.float32), before)
    found = frame_numbers(run, 2, maps, masks)
    assert set(found) == {*FRAME_NUMBERS, *MASK_NUMBERS}
    assert found["maps/spearman_to_previous"] == pytest.approx(1), "an image whose map was zero does not count"
    assert found["maps/pointing"] == found["maps/mass_on_mask"] == 0.75
    assert set(frame_numbers(run, 1, maps, masks)) == set(MASK_NUMBERS), "only earlier frames count"


def test_a_run_without_a_film_says_nothing_and_a_damaged_frame_is_named(tmp_path):
    writer = RunWriter.create(tmp_path / "run", {})
    assert measures.through_training(Run(tmp_path / "run")) is None
    for epoch in range(2):
        writer.film(epoch, np.zeros(2, np.int64), np.zeros((2, 2), np.float32), np.ones((2, 1, 4, 4), np.float32))
    (tmp_path / "run" / "film" / "0001.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"0001.npz is damaged"):
        measures.through_training(Run(tmp_path / "run"))
