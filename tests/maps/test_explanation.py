"""What several models' looks at the same images hold, and what a class view sums up."""

import numpy as np
import pytest
import torch
from small_looks import NAMES, card_of, noise, view_of

from cvx import models
from cvx.attribution import NotFiniteError
from cvx.data.transforms import fit_image
from cvx.maps import explanation
from cvx.maps.explanation import explain_images


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return models.build("resnet10t", 3, 16, 3, mean=(0.5,) * 3, std=(0.25,) * 3).eval()


@pytest.fixture(scope="module")
def gray_net():
    torch.manual_seed(1)
    return models.build("resnet10t", 3, 8, 1, mean=(0.5,), std=(0.25,)).eval()


def inputs_of(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def gradient_alone(classifier, image, target):
    inputs = inputs_of(image[None]).requires_grad_()
    (gradient,) = torch.autograd.grad(classifier(inputs)[0, target], inputs)
    return gradient[0].numpy()


def test_a_look_holds_the_logits_and_the_gradient_of_each_predicted_logit(net):
    images = noise(5, 16, 16, 3)
    view = explain_images("a:v0", net, card_of(net), images)
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
    view = explain_images("a:v0", net, card_of(net), images, target, labels=np.array([2, 0, 1]))
    assert view.targets.tolist() == expected
    gradient = gradient_alone(net, images[0], expected[0])
    assert np.allclose(view.attribution[0], gradient, atol=1e-5 * np.abs(gradient).max())


def test_labels_of_another_dataset_are_found_by_their_class_names(net):
    view = explain_images(
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
        explain_images("a:v0", net, card_of(net), images, "label", labels, label_classes=("owl", "car", "bus"))
    with pytest.raises(ValueError, match=r"labels must lie in 0…2, got 0…3"):
        explain_images("a:v0", net, card_of(net), images, "label", np.array([0, 3]))
    with pytest.raises(ValueError, match="needs labels"):
        explain_images("a:v0", net, card_of(net), images, "label")


def test_an_unknown_class_is_an_error_that_lists_the_known_ones(net):
    with pytest.raises(ValueError, match=r"unknown class 'cow'; pets-net knows 'cat', 'dog', 'owl'"):
        explain_images("a:v0", net, card_of(net), noise(1, 16, 16, 3), "cow")


@pytest.mark.parametrize("shape", [(2, 16, 16, 3), (2, 16, 16, 1), (2, 33, 20, 3), (2, 5, 9, 1), (1, 1, 1, 3)])
def test_models_of_other_sizes_and_channels_explain_the_same_pixels(net, gray_net, shape):
    images, side = noise(*shape), min(shape[1:3])
    for classifier, facts in ((net, {}), (gray_net, {"image_size": 8, "in_chans": 1})):
        view = explain_images("a:v0", classifier, card_of(classifier, **facts), images)
        assert view.images.shape == (shape[0], side, side, shape[3])
        assert view.attribution.shape == (shape[0], shape[3], side, side)
        assert np.array_equal(view.images[0], fit_image(images[0], side))  # of what is no square, the center


@pytest.mark.parametrize("shape", [(1, 16, 16, 1), (1, 11, 11, 3), (1, 24, 24, 3), (1, 40, 40, 1)])
def test_a_map_of_a_fitted_image_is_what_finite_differences_find(shape):
    classifier = models.build("test_vit", 3, 16, 3, mean=(0.5,) * 3, std=(0.25,) * 3).eval().double()  # has no kinks
    images = 64 + noise(*shape) // 2  # away from the ends, where values are cut
    view = explain_images("a:v0", classifier, card_of(classifier), images, "dog")
    exact = classifier.of(shape[1], shape[3])
    inputs = torch.tensor(images).permute(0, 3, 1, 2).double() / 255
    for seed in range(4):
        way = torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(inputs.shape)))
        with torch.no_grad():
            ends = exact(inputs + 1e-6 * way), exact(inputs - 1e-6 * way)
        change = (ends[0] - ends[1])[0, 1].item() / 2e-6
        assert change == pytest.approx(float((view.attribution * way.numpy()).sum()), rel=1e-4, abs=1e-6)


def test_class_names_are_found_in_composed_and_decomposed_letters(net):
    card = card_of(net, classes=("caf\u00e9", "dog", "owl"))
    images, names = noise(2, 16, 16, 3), ("owl", "cafe\u0301")
    view = explain_images("a:v0", net, card, images, "label", np.array([0, 1]), label_classes=names)
    assert view.targets.tolist() == [2, 0]
    assert explain_images("a:v0", net, card, images, "cafe\u0301").targets.tolist() == [0, 0]


def test_an_image_that_fits_is_seen_as_it_is(net):
    images = noise(2, 16, 16, 3)
    assert np.array_equal(explain_images("a:v0", net, card_of(net), images).images, images)


def test_read_only_memory_maps_are_looked_at_without_a_warning(net, tmp_path):
    np.save(tmp_path / "images.npy", noise(3, 16, 16, 3))
    np.save(tmp_path / "labels.npy", np.array([2, 0, 1]))
    images, labels = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    view = explain_images("a:v0", net, card_of(net), images, "label", labels, label_classes=NAMES)
    assert view.targets.tolist() == [2, 0, 1] and np.array_equal(view.images, images)


def test_two_classes_of_one_name_keep_their_places(net):
    card = card_of(net, classes=("crane", "dog", "crane"))
    view = explain_images("a:v0", net, card, noise(2, 16, 16, 3), "label", np.array([0, 2]), label_classes=card.classes)
    assert view.targets.tolist() == [0, 2]


def test_a_look_at_many_images_is_that_at_each(net, monkeypatch):
    images = noise(5, 16, 16, 3)
    whole = explain_images("a:v0", net, card_of(net), images)
    monkeypatch.setattr(explanation, "PIXELS", 2 * 16 * 16)
    parts = explain_images("a:v0", net, card_of(net), images)
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
    monkeypatch.setattr(explanation, "PIXELS", 2 * 8 * 8)
    with pytest.raises(NotFiniteError, match="^image 4: .*logits"):
        explain_images("a:v0", broken, card_of(broken, image_size=8), images, "cat")


def test_no_image_is_an_error(net):
    with pytest.raises(ValueError, match="no image to look at"):
        explain_images("a:v0", net, card_of(net), np.zeros((0, 16, 16, 3), np.uint8))


def test_a_look_leaves_the_model_as_it_was(net):
    net.train()
    try:
        explain_images("a:v0", net, card_of(net), noise(2, 16, 16, 3))
        assert net.training and all(p.requires_grad and p.grad is None for p in net.parameters())
    finally:
        net.eval()


def test_probabilities_are_the_softmax_even_of_huge_logits():
    logits = np.array([[1e4, 1e4, -1e4], [0.0, 1.0, 2.0]])
    view = view_of(np.ones((2, 1, 4, 4)), logits)
    expected = torch.softmax(torch.tensor(logits), dim=1).numpy()
    assert np.allclose(view.probs, expected, atol=1e-6)


def test_the_top_classes_are_the_most_probable_best_first():
    view = view_of(np.ones((1, 1, 4, 4)), [[0.0, 2.0, 1.0]])
    names, probs = zip(*explanation.top_classes(view, 0), strict=True)
    assert names == ("dog", "owl", "cat")
    assert np.allclose(probs, np.exp([2, 1, 0]) / np.exp([2, 1, 0]).sum())
    assert [name for name, _ in explanation.top_classes(view, 0, 1)] == ["dog"]


def test_a_shared_scale_keeps_the_ratio_of_two_models_maps_and_each_its_own_does_not():
    base = np.random.default_rng(0).uniform(0.5, 1, (1, 1, 6, 6))
    views = [view_of(base), view_of(base / 4)]
    strong, weak = explanation.heatmaps(views, 0, mode="shared", clip=1.0)
    assert np.allclose(weak.values * 4, strong.values, atol=1e-6) and np.isclose(strong.values.max(), 1)
    strong, weak = explanation.heatmaps(views, 0, mode="each", clip=1.0)
    assert np.allclose(weak.values, strong.values, atol=1e-6)


def test_maps_of_different_sizes_stand_in_one_row():
    views = [view_of(np.ones((2, 3, 6, 6))), view_of(2 * np.ones((2, 1, 9, 9)))]
    first, second = explanation.heatmaps(views, 1)
    assert first.values.shape[-2:] == (6, 6) and second.values.shape[-2:] == (9, 9)
