"""The folded copy, against the model it was made of and captum."""

import copy

import pytest
import torch
from captum.attr import Saliency
from torch import nn
from trained_models import images, trained

from cvx.attribution import attribute, vanilla_gradient
from cvx.models.fold_batchnorm import WORTHWHILE, fold_batchnorm


def norms(model):
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "regnetx_002"])
def test_the_copy_has_no_batch_norm_left_and_captums_map_of_the_model(name):
    model, inputs, targets = trained(name), images(4), torch.arange(4)
    twin = fold_batchnorm(model, inputs[:1])
    assert norms(twin) == 0 < norms(model)
    expected = Saliency(model).attribute(inputs.clone().requires_grad_(), target=targets, abs=False)
    logits, attribution = vanilla_gradient(twin, inputs, targets)
    torch.testing.assert_close(attribution, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(logits, model(inputs).detach(), rtol=1e-5, atol=1e-5)


def test_the_model_is_left_as_it_was():
    model = trained("test_resnet").train()
    model.net.layer1.eval()
    before, flags = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
    vanilla_gradient(fold_batchnorm(model, images(1)), images(2), torch.tensor([0, 1]))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert hooks == 0 == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_a_convolution_that_something_else_reads_too_keeps_its_batch_norm():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.second, self.last = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

        def forward(self, inputs):
            found = self.first(inputs)
            return self.last(self.second(self.norm(found) + found)).mean((2, 3))

    model, inputs, targets = Branching().eval(), images(3), torch.tensor([0, 3, 1])
    for norm in (model.norm, model.last):
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    twin = fold_batchnorm(model, inputs[:1])
    assert isinstance(twin.norm, nn.BatchNorm2d) and isinstance(twin.last, nn.Identity)
    torch.testing.assert_close(vanilla_gradient(twin, inputs, targets), vanilla_gradient(model, inputs, targets))


def test_a_convolution_that_is_used_twice_keeps_its_batch_norm():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.other = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, inputs):
            return self.other(self.conv(self.norm(self.conv(inputs)))).mean((2, 3))

    model = Twice().eval()
    assert fold_batchnorm(model, images(1)) is model


def test_a_model_with_nothing_to_change_or_one_that_cannot_be_copied_is_used_itself():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(5)).eval()
    plain(images(1))
    assert fold_batchnorm(plain, images(1)) is plain
    stubborn = trained("test_resnet")
    stubborn.held = torch.zeros(2, requires_grad=True) * 2  # torch copies no tensor with a history
    assert fold_batchnorm(stubborn, images(1)) is stubborn


def test_many_images_have_the_maps_that_few_have():
    model, inputs = trained("test_resnet"), images(WORTHWHILE)
    for targets in (torch.arange(WORTHWHILE) % 10, None):
        many, few = attribute(model, inputs, targets), vanilla_gradient(model, inputs, targets)
        for one, other in zip(many, few, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("method", ["gradient", "integrated_gradients"])
def test_without_targets_the_predicted_class_is_explained(method):
    model, inputs = trained("test_resnet"), images(2)
    expected = attribute(model, inputs, model(inputs).argmax(1), method=method)
    torch.testing.assert_close(attribute(model, inputs, method=method), expected)


def test_a_prediction_needs_one_pass_forward():
    class Counting(nn.Linear):
        passes = 0

        def forward(self, inputs):
            Counting.passes += 1
            return super().forward(inputs.flatten(1))

    vanilla_gradient(Counting(12, 3), images(5, 2))
    assert Counting.passes == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "seresnet18", "efficientnet_b0", "densenet121", "levit_128s"])
def test_rounding_is_that_of_float32_on_every_family(name):
    model, inputs, targets = trained(name, 32), images(8, 32), torch.arange(8)
    exact = copy.deepcopy(model).double()
    truth = Saliency(exact).attribute(inputs.double().requires_grad_(), target=targets, abs=False)
    _, attribution = vanilla_gradient(fold_batchnorm(model, inputs[:1]), inputs, targets)
    errors = (attribution.double() - truth).flatten(1).abs().amax(1) / truth.flatten(1).abs().amax(1)
    assert errors.median() < 5e-6  # a ReLU at zero may fall either way, in a map or two
    assert errors.max() < 0.1
