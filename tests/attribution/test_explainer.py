"""One explainer for a request: folded once, the model's own maps, and what it does when the model changes."""

import gc
import logging
import weakref

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from small_looks import card_of, noise
from torch import nn
from trained_models import images, trained

from cvx.attribution import Explainer, vanilla_gradient
from cvx.maps.explanation import ImageExplainer, explain_images
from cvx.models import build, fold_batchnorm
from cvx.models.fold_batchnorm import WORTHWHILE


@pytest.fixture
def foldings(monkeypatch):
    """Note what each folding gives: a copy, or the model itself."""
    made, plain = [], fold_batchnorm.fold_batchnorm

    def fold(model, *rest, **more):
        made.append(plain(model, *rest, **more))
        return made[-1]

    monkeypatch.setattr(fold_batchnorm, "fold_batchnorm", fold)
    return made


def captums(model, inputs, targets):
    return Saliency(model).attribute(inputs.clone().requires_grad_(), target=targets, abs=False)


def equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_a_request_of_many_calls_is_folded_once_and_has_captums_maps(foldings):
    model, inputs, targets = trained("test_resnet"), images(36), torch.arange(36) % 10
    with Explainer(model, num=36) as explainer:
        parts = [explainer(inputs[i : i + 4], targets[i : i + 4]) for i in range(0, 36, 4)]
    assert len(foldings) == 1 and foldings[0] is not model
    logits, attribution = (torch.cat(arrays) for arrays in zip(*parts, strict=True))
    equal(attribution, captums(model, inputs, targets))
    equal(logits, model(inputs).detach())


@pytest.mark.parametrize(("num", "calls"), [(WORTHWHILE, 1), (WORTHWHILE - 1, 0), (0, 0)])
def test_whether_a_copy_is_worth_it_is_told_by_the_whole_request(foldings, num, calls):
    with Explainer(trained("test_resnet"), num=num) as explainer:
        for _ in range(2):
            explainer(images(2))
    assert len(foldings) == calls


def test_photographs_are_explained_of_one_copy(foldings):
    torch.manual_seed(0)
    net = build("test_resnet", 3, 224, stem="timm").eval()
    photographs = noise(WORTHWHILE, 224, 224, 3)
    view = explain_images("a:v0", net, card_of(net, image_size=224), photographs, "dog")
    assert len(foldings) == 1 and foldings[0] is not net and type(foldings[0]) is type(net)
    some = torch.tensor(photographs[-2:]).permute(0, 3, 1, 2).float() / 255
    equal(torch.tensor(view.attribution[-2:]), captums(net, some, torch.tensor([1, 1])))


def test_an_image_explainer_gives_in_parts_what_it_gives_at_once(foldings):
    net = build("test_resnet", 3, 16).eval()
    pixels, labels = noise(40, 16, 16, 3), np.arange(40) % 3
    whole = explain_images("a:v0", net, card_of(net), pixels, "label", labels)
    with ImageExplainer("a:v0", net, card_of(net), (16, 16, 3), 40, "label") as explain:
        parts = [explain(pixels[i : i + 10], labels[i : i + 10]) for i in range(0, 40, 10)]
    assert len(foldings) == 2
    for name in ("logits", "attribution", "targets", "images"):
        together = np.concatenate([getattr(part, name) for part in parts])
        equal(torch.tensor(together).float(), torch.tensor(getattr(whole, name)).float())


def scaled(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)


def trained_on(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(images(4)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def loaded(model):
    model.load_state_dict({name: value * 0.9 for name, value in model.state_dict().items()})


def replaced(model):
    head = model.net.fc
    model.net.fc = nn.Linear(head.in_features, head.out_features)


def with_other_statistics(model):
    next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)).running_mean.add_(0.5)


def hooked(model):
    model.net.layer1.register_forward_hook(lambda _module, _inputs, output: output * 2)


@pytest.mark.parametrize("change", [scaled, trained_on, loaded, replaced, with_other_statistics, hooked])
def test_a_model_that_changes_between_two_calls_has_the_maps_of_its_new_weights(foldings, caplog, change):
    model, inputs, targets = trained("test_resnet"), images(8), torch.arange(8)
    with (
        Explainer(model, num=100, batch_size=8) as explainer,
        caplog.at_level(logging.DEBUG, "cvx.models.fold_batchnorm"),
    ):
        before = explainer(inputs, targets)[1]
        assert not caplog.records
        change(model)
        for _ in range(2):
            after = explainer(inputs, targets)[1]
            assert torch.equal(after, vanilla_gradient(model, inputs, targets)[1])
    assert not torch.allclose(before, after, rtol=1e-2)
    assert len(foldings) == 1 and len(caplog.records) == 1
    assert "is out of date, so the model itself is used" in caplog.text


def test_images_of_another_size_are_explained_of_the_model_itself(foldings):
    net = trained("test_resnet", 32).net
    with Explainer(net, num=100) as explainer:
        for side in (32, 64, 32):
            inputs, targets = images(2, side), torch.tensor([3, 4])
            equal(explainer(inputs, targets)[1], vanilla_gradient(net, inputs, targets)[1])
    assert len(foldings) == 1


def test_an_explainer_lets_go_of_its_copy_when_it_is_closed():
    copies = []
    model = trained("test_resnet")
    plain = fold_batchnorm.fold_batchnorm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_batchnorm, "fold_batchnorm", lambda *rest, **more: noted(plain(*rest, **more), copies))
        with Explainer(model, num=100) as explainer:
            explainer(images(2))
    gc.collect()
    assert len(copies) == 1 and copies[0]() is None and isinstance(copies[0], weakref.ref)
    with pytest.raises(RuntimeError, match="closed"):
        explainer(images(2))


def noted(copied, copies):
    copies.append(weakref.ref(copied))
    return copied


def test_no_image_makes_no_copy_and_many_afterwards_do(foldings):
    with Explainer(trained("test_resnet"), num=100) as explainer:
        assert explainer(images(0))[1].shape == (0, 3, 16, 16) and not foldings
        explainer(images(3))
    assert len(foldings) == 1


def test_a_request_that_cannot_be_is_refused_before_any_image():
    model = trained("test_resnet")
    for request, message in (
        ({"score": "prob"}, "unknown score 'prob'; known: logit, logprob, margin"),
        ({"method": "lime"}, "unknown method 'lime'"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"batch_size": -1}, "batch_size must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            Explainer(model, **request)
