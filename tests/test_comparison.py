"""What several models' looks at the same images hold, and what a class view sums up."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvx import comparison, models
from cvx.attribution import NotFiniteError
from cvx.checkpoint import Card
from cvx.comparison import View, class_view, look, sum_up
from cvx.data.splits import Split, fit_channels, fit_image

NAMES = ("cat", "dog", "owl")


def card_of(classifier, classes=NAMES, image_size=16, in_chans=3, dataset="pets"):
    return Card(
        name=f"{dataset}-net",
        dataset=dataset,
        model="net",
        build=classifier.build_args if classifier else {},
        classes=classes,
        image_size=image_size,
        in_chans=in_chans,
        mean=(0.5,) * in_chans,
        std=(0.25,) * in_chans,
    )


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return models.build("resnet10t", 3, 16, 3, mean=(0.5,) * 3, std=(0.25,) * 3).eval()


@pytest.fixture(scope="module")
def gray_net():
    torch.manual_seed(1)
    return models.build("resnet10t", 3, 8, 1, mean=(0.5,), std=(0.25,)).eval()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def inputs_of(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def gradient_alone(classifier, image, target):
    inputs = inputs_of(image[None]).requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(inputs)[0, target], inputs)
    return gradient[0].numpy()


def test_a_look_holds_the_logits_and_the_gradient_of_each_predicted_logit(net):
    images = noise(5, 16, 16, 3)
    view = look("a:v0", net, card_of(net), images)
    with torch.no_grad():
        logits = net(inputs_of(images)).numpy()
    assert np.allclose(view.logits, logits, atol=1e-5)
    assert np.array_equal(view.targets, logits.argmax(1)) and np.array_equal(view.preds, view.targets)
    for i, image in enumerate(images):
        expected = gradient_alone(net, image, int(view.targets[i]))
        assert np.allclose(view.attribution[i], expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("target", "expected"), [("label", [2, 0, 1]), ("dog", [1, 1, 1])])
def test_the_target_is_the_label_or_a_class_by_name(net, target, expected):
    images = noise(3, 16, 16, 3)
    view = look("a:v0", net, card_of(net), images, target, labels=np.array([2, 0, 1]))
    assert view.targets.tolist() == expected
    gradient = gradient_alone(net, images[0], expected[0])
    assert np.allclose(view.attribution[0], gradient, atol=1e-5 * np.abs(gradient).max())


def test_labels_of_another_dataset_are_found_by_their_class_names(net):
    view = look(
        "a:v0",
        net,
        card_of(net),
        noise(3, 16, 16, 3),
        "label",
        np.array([0, 1, 0]),
        label_classes=("owl", "cat"),
    )
    assert view.targets.tolist() == [2, 0, 2]


def test_labels_that_the_model_does_not_know_are_an_error_that_names_them(net):
    images, labels = noise(2, 16, 16, 3), np.array([0, 1])
    with pytest.raises(ValueError, match=r"no class 'car'.*choose `pred`.*'cat', 'dog', 'owl'"):
        look("a:v0", net, card_of(net), images, "label", labels, label_classes=("owl", "car", "bus"))
    with pytest.raises(ValueError, match=r"labels must lie in 0…2, got 0…3"):
        look("a:v0", net, card_of(net), images, "label", np.array([0, 3]))
    with pytest.raises(ValueError, match="needs labels"):
        look("a:v0", net, card_of(net), images, "label")


def test_an_unknown_class_is_an_error_that_lists_the_known_ones(net):
    with pytest.raises(ValueError, match=r"unknown class 'cow'; pets-net knows 'cat', 'dog', 'owl'"):
        look("a:v0", net, card_of(net), noise(1, 16, 16, 3), "cow")


@pytest.mark.parametrize("shape", [(2, 16, 16, 3), (2, 16, 16, 1), (2, 33, 20, 3), (2, 5, 9, 1), (1, 1, 1, 3)])
def test_models_of_other_sizes_and_channels_see_the_same_image_fitted_to_each(net, gray_net, shape):
    images = noise(*shape)
    large = look("a:v0", net, card_of(net), images)
    small = look("b:v0", gray_net, card_of(gray_net, image_size=8, in_chans=1), images)
    assert large.images.shape == (shape[0], 16, 16, 3) and large.attribution.shape == (shape[0], 3, 16, 16)
    assert small.images.shape == (shape[0], 8, 8, 1) and small.attribution.shape == (shape[0], 1, 8, 8)
    assert np.array_equal(large.images[0], fit_channels(fit_image(images[0], 16), 3))
    assert np.array_equal(small.images[0], fit_channels(fit_image(images[0], 8), 1))


def test_an_image_that_fits_is_seen_as_it_is(net):
    images = noise(2, 16, 16, 3)
    assert np.array_equal(look("a:v0", net, card_of(net), images).images, images)


def test_read_only_memory_maps_are_looked_at_without_a_warning(net, tmp_path):
    np.save(tmp_path / "images.npy", noise(3, 16, 16, 3))
    np.save(tmp_path / "labels.npy", np.array([2, 0, 1]))
    images, labels = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    view = look("a:v0", net, card_of(net), images, "label", labels, label_classes=NAMES)
    assert view.targets.tolist() == [2, 0, 1] and np.array_equal(view.images, images)


def test_two_classes_of_one_name_keep_their_places(net):
    card = card_of(net, classes=("crane", "dog", "crane"))
    view = look("a:v0", net, card, noise(2, 16, 16, 3), "label", np.array([0, 2]), label_classes=card.classes)
    assert view.targets.tolist() == [0, 2]


def test_a_look_at_many_images_is_that_at_each(net, monkeypatch):
    images = noise(5, 16, 16, 3)
    whole = look("a:v0", net, card_of(net), images)
    monkeypatch.setattr(comparison, "PIXELS", 2 * 16 * 16)
    parts = look("a:v0", net, card_of(net), images)
    assert np.allclose(whole.logits, parts.logits, atol=1e-5)
    assert np.allclose(whole.attribution, parts.attribution, atol=1e-5 * np.abs(whole.attribution).max())


def test_weights_that_diverged_are_an_error_that_names_the_image(monkeypatch):
    broken = models.build("resnet10t", 3, 8, 3, mean=(0.5,) * 3, std=(0.25,) * 3).eval()
    images, head = noise(5, 8, 8, 3), broken.net.get_classifier()
    with torch.no_grad():
        head.weight[1] = 1
        sums = broken(inputs_of(images))[:, 1].numpy()
        images = images[np.argsort(sums)]
        head.weight[1] = float(np.finfo(np.float32).max / np.sort(sums)[-2:].mean())  # overflows for the last alone
        finite = torch.isfinite(broken(inputs_of(images))).all(dim=1).tolist()
    assert finite == [True, True, True, True, False]
    monkeypatch.setattr(comparison, "PIXELS", 2 * 8 * 8)
    with pytest.raises(NotFiniteError, match="^image 4: .*logits"):
        look("a:v0", broken, card_of(broken, image_size=8), images, "cat")


def test_no_image_is_an_error(net):
    with pytest.raises(ValueError, match="no image to look at"):
        look("a:v0", net, card_of(net), np.zeros((0, 16, 16, 3), np.uint8))


def test_a_look_leaves_the_model_as_it_was(net):
    net.train()
    try:
        look("a:v0", net, card_of(net), noise(2, 16, 16, 3))
        assert net.training and all(p.requires_grad and p.grad is None for p in net.parameters())
    finally:
        net.eval()


def view_of(attribution, logits=None, targets=None, classes=NAMES, size=None):
    n, c, h, w = attribution.shape
    logits = np.zeros((n, len(classes)), np.float32) if logits is None else np.asarray(logits, np.float32)
    targets = np.zeros(n, np.int64) if targets is None else targets
    card = card_of(None, classes, h, c)
    return View("a:v0", card, noise(n, h, w, c), logits, targets, attribution.astype(np.float32), "logit", "gradient")


def test_probabilities_are_the_softmax_even_of_huge_logits():
    logits = np.array([[1e4, 1e4, -1e4], [0.0, 1.0, 2.0]])
    view = view_of(np.ones((2, 1, 4, 4)), logits)
    expected = torch.softmax(torch.tensor(logits), dim=1).numpy()
    assert np.allclose(view.probs, expected, atol=1e-6)


def test_the_top_classes_are_the_most_probable_best_first():
    view = view_of(np.ones((1, 1, 4, 4)), [[0.0, 2.0, 1.0]])
    names, probs = zip(*comparison.top_classes(view, 0), strict=True)
    assert names == ("dog", "owl", "cat")
    assert np.allclose(probs, np.exp([2, 1, 0]) / np.exp([2, 1, 0]).sum())
    assert [name for name, _ in comparison.top_classes(view, 0, 1)] == ["dog"]


def test_a_shared_scale_keeps_the_ratio_of_two_models_maps_and_each_its_own_does_not():
    base = np.random.default_rng(0).uniform(0.5, 1, (1, 1, 6, 6))
    views = [view_of(base), view_of(base / 4)]
    strong, weak = comparison.heatmaps(views, 0, mode="shared", clip=1.0)
    assert np.allclose(weak.values * 4, strong.values, atol=1e-6) and np.isclose(strong.values.max(), 1)
    strong, weak = comparison.heatmaps(views, 0, mode="each", clip=1.0)
    assert np.allclose(weak.values, strong.values, atol=1e-6)


def test_maps_of_different_sizes_stand_in_one_row():
    views = [view_of(np.ones((2, 3, 6, 6))), view_of(2 * np.ones((2, 1, 9, 9)))]
    first, second = comparison.heatmaps(views, 1)
    assert first.values.shape[-2:] == (6, 6) and second.values.shape[-2:] == (9, 9)


def maps(*parts):
    return np.stack([np.asarray(part, np.float32)[None] for part in parts])


def spot(size, *cells):
    one = np.zeros((size, size))
    for cell in cells:
        one[cell] = 1
    return one


def test_the_mean_map_counts_every_image_alike():
    summed = sum_up(view_of(maps(1000 * spot(4, (0, 0)), 0.001 * spot(4, (3, 3)))), np.arange(2), "cat")
    assert np.allclose(summed.mean_map, (spot(4, (0, 0)) + spot(4, (3, 3))) / 2)
    assert summed.num == 2 and summed.num_zero == 0


def test_a_zero_map_is_counted_and_left_out_of_every_mean():
    masks = np.stack([spot(4, (1, 1)), spot(4, (0, 0))]).astype(bool)
    summed = sum_up(view_of(maps(spot(4, (1, 1)), np.zeros((4, 4)))), np.arange(2), "cat", masks)
    assert np.array_equal(summed.mean_map, spot(4, (1, 1)))
    assert (summed.num, summed.num_zero, summed.mass_on_mask, summed.mask_share) == (2, 1, 1.0, 1 / 16)
    assert np.isfinite(summed.maps).all()


def test_a_class_with_zero_maps_only_has_no_numbers_and_a_zero_mean():
    masks = np.ones((2, 4, 4), bool)
    summed = sum_up(view_of(np.zeros((2, 1, 4, 4))), np.arange(2), "cat", masks)
    assert np.array_equal(summed.mean_map, np.zeros((4, 4))) and np.isnan(summed.center_bias)
    assert summed.mass_on_mask is None and summed.mask_share is None and summed.num_zero == 2


@pytest.mark.parametrize("scale", [1e-30, 1e-42, 1e30])
def test_tiny_and_huge_maps_count_like_others(scale):
    ones = np.ones((1, 1, 16, 16), np.float32) * np.float32(scale)
    summed = sum_up(view_of(ones), np.arange(1), "cat")
    assert np.allclose(summed.mean_map, 1 / 256) and np.isclose(summed.center_bias, 1)


@given(st.integers(1, 12), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_center_bias_is_one_for_a_uniform_map_and_below_for_a_central_one(size, seed):
    uniform = sum_up(view_of(np.ones((2, 1, size, size)) * (seed + 1)), np.arange(2), "cat")
    assert np.isclose(uniform.center_bias, 1)
    rows = np.arange(size) - (size - 1) / 2
    distances = np.hypot(rows[:, None], rows[None])
    central = sum_up(view_of(np.exp(-distances)[None, None]), np.arange(1), "cat").center_bias
    outward = sum_up(view_of(np.exp(distances)[None, None]), np.arange(1), "cat").center_bias
    assert central <= 1 + 1e-6 <= outward + 2e-6 and (size <= 2 or central < 1 < outward)


def test_center_bias_of_one_pixel_is_its_distance_over_the_mean_distance():
    rows = np.arange(5) - 2
    distances = np.hypot(rows[:, None], rows[None])
    for cell in [(0, 0), (2, 2), (1, 4)]:
        summed = sum_up(view_of(maps(spot(5, cell))), np.arange(1), "cat")
        assert np.isclose(summed.center_bias, distances[cell] / distances.mean())


def test_mass_on_mask_is_the_mean_share_of_the_map_and_chance_the_mean_share_of_the_image():
    random = np.random.default_rng(0)
    attribution, masks = random.normal(size=(6, 3, 8, 8)), random.random((6, 8, 8)) < 0.3
    summed = sum_up(view_of(attribution), np.arange(6), "cat", masks)
    heat = np.abs(attribution).max(axis=1)
    expected = [heat[i][masks[i]].sum() / heat[i].sum() for i in range(6)]
    assert np.isclose(summed.mass_on_mask, np.mean(expected)) and np.isclose(summed.mask_share, masks.mean())


def test_a_map_that_knows_nothing_has_the_mass_of_chance():
    masks = np.random.default_rng(0).random((5, 8, 8)) < 0.4
    summed = sum_up(view_of(np.ones((5, 1, 8, 8))), np.arange(5), "cat", masks)
    assert np.isclose(summed.mass_on_mask, summed.mask_share)


def test_an_image_whose_mask_is_empty_is_left_out_of_the_mass():
    masks = np.stack([spot(4, (1, 1)), np.zeros((4, 4))]).astype(bool)
    summed = sum_up(view_of(maps(spot(4, (1, 1)), spot(4, (1, 1)))), np.arange(2), "cat", masks)
    assert summed.mass_on_mask == 1.0 and summed.mask_share == 1 / 16
    empty = sum_up(view_of(maps(spot(4, (1, 1)))), np.arange(1), "cat", np.zeros((1, 4, 4), bool))
    assert empty.mass_on_mask is None


def test_a_mask_is_fitted_to_a_model_of_another_size():
    masks = np.zeros((1, 8, 8), bool)
    masks[:, :4] = True
    upper = np.zeros((1, 1, 16, 16))
    upper[:, :, :8] = 1
    summed = sum_up(view_of(upper), np.arange(1), "cat", masks)
    assert summed.mass_on_mask == 1.0 and summed.mask_share == 0.5


def test_signed_maps_keep_their_sign_in_the_mean_and_their_magnitude_in_the_numbers():
    part = spot(4, (1, 1)) - spot(4, (0, 0))
    mask = spot(4, (1, 1)).astype(bool)[None]
    summed = sum_up(view_of(maps(part)), np.arange(1), "cat", mask, reduction="signed")
    assert summed.mean_map[1, 1] == 0.5 and summed.mean_map[0, 0] == -0.5 and summed.mass_on_mask == 0.5


@pytest.fixture
def samples():
    labels = np.tile(np.arange(3), 10)
    return Split(noise(30, 16, 16, 3), labels, np.arange(100, 130))


def test_a_class_view_is_of_the_first_samples_of_the_class(net, samples):
    seen = class_view("a:v0", net, card_of(net), samples, 1, num=4, num_exemplars=2)
    assert seen.class_name == "dog" and seen.num == 4
    assert seen.indices.tolist() == [1, 4] and np.array_equal(seen.images, samples.images[[1, 4]])
    view = look("a:v0", net, card_of(net), samples.images[[1, 4, 7, 10]], "dog")
    heat = np.abs(view.attribution).max(axis=1)
    assert np.allclose(seen.maps, heat[:2], rtol=1e-4, atol=1e-7)
    shares = heat / heat.sum(axis=(1, 2), keepdims=True)
    assert np.allclose(seen.mean_map, shares.mean(axis=0), rtol=1e-4)
    assert seen.accuracy == np.mean(view.preds == 1) and seen.preds == tuple(NAMES[p] for p in view.preds[:2])
    assert seen.mass_on_mask is None


def test_a_class_without_samples_and_one_that_does_not_exist_are_errors(net, samples):
    only_cats = Split(samples.images[:1], samples.labels[:1], samples.ids[:1])
    with pytest.raises(ValueError, match="no sample is of class 'owl'"):
        class_view("a:v0", net, card_of(net), only_cats, 2)
    with pytest.raises(ValueError, match=r"class index must lie in 0…2, got 3"):
        class_view("a:v0", net, card_of(net), samples, 3)
