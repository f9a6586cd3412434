"""Whether maps can be trusted: on masks, beside controls, without what was learned, under noise."""

import re

import numpy as np
import pytest
import torch
from small_store import add_model, make_splits, make_store

from cvx import comparison
from cvx.attribution import METHODS, to_heatmap
from cvx.comparison import Options, Sanity
from cvx.comparison.faithfulness import untrained
from cvx.metrics.agreement import compare, map_features
from cvx.metrics.faithfulness import curves
from cvx.metrics.sensitivity import max_sensitivity
from cvx.store import Store

PAIR = ("tiles-resnet10t", "tiles-vit_tiny")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"))


def test_localization_is_that_of_the_maps_with_its_chance(store):
    from cvx.attribution import to_heatmap
    from cvx.maps.explanation import explain_images
    from cvx.metrics import localization

    table = comparison.localization(store, PAIR, Options(num=20))
    classifier, card = store.resolve(PAIR[1]).load()
    split = store.samples("tiles").split.head(20)
    view = explain_images(PAIR[1], classifier, card, np.array(split.images), "label", np.array(split.labels))
    expected = localization.localize(to_heatmap(view.attribution), np.array(split.masks))
    for name in table.names:
        np.testing.assert_allclose(table.values[name][1], expected[name], atol=1e-6, err_msg=name)
    assert table.chance("mass", 1) == pytest.approx(split.masks.mean()) and table.chance("auc", 1) == 0.5


def test_localization_without_masks_is_an_error(store):
    with pytest.raises(ValueError, match="dots-resnet10t:v0 have no masks"):
        comparison.localization(store, ["dots-resnet10t"])


def test_faithfulness_holds_every_test_beside_every_control(store):
    found = comparison.faithfulness(store, ["dots-resnet10t"], Options(num=3))
    assert len(found.rows()) == len(found.tests) * len(comparison.MAPS)
    curve = found.curve(0, "deletion_mean", "own")
    assert curve.shape == found.shares("deletion_mean").shape and (curve >= 0).all() and (curve <= 1).all()
    starts = [found.curve(0, "road_most", name)[0] for name in comparison.MAPS]
    assert starts == pytest.approx([starts[0]] * len(starts))
    assert found.lead(0, "deletion_mean", "own").mean == 0
    assert "of 6 removal tests" in found.verdict(0)


@pytest.mark.slow
def test_sanity_ends_at_the_untrained_model_and_says_so(store):
    found = comparison.sanity(store, PAIR, Options(num=4))
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
    sanity = comparison.sanity(store, [name], asked)
    left = sanity.after(0, "spearman", sanity.blocks(0)[-1])
    assert left.mean == pytest.approx(compare(map_features(own), map_features(last))["spearman"].mean(), abs=1e-3)
    steady, plain = (
        comparison.stability(store, [name], one).values["max_sensitivity"][0] for one in (asked, Options(**options))
    )
    expected = max_sensitivity(classifier, inputs, targets, explain=explain)
    np.testing.assert_allclose(steady, expected, rtol=1e-3)
    assert not np.allclose(steady, plain, rtol=1e-2), "each method's numbers are kept by themselves"
    control = curves(classifier, inputs, targets, to_heatmap(last, "max"), "deletion_mean")
    found = comparison.faithfulness(store, [name], asked).curve(0, "deletion_mean", "randomized_model")
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
    table = comparison.stability(store, ["tiles-vit_tiny"], Options(num=2))
    assert table.interval("max_sensitivity", 0).num == 2 and table.interval("max_sensitivity", 0).mean > 0
