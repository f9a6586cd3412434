"""Randomization of real architectures, and entropy against numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from cvx import models
from cvx.attribution import integrated_gradients, vanilla_gradient
from cvx.metrics import randomization


def make(name, seed):
    torch.manual_seed(seed)
    net = models.build(name, 4, 16, 1).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return net


def ask(num=3):
    return torch.rand(num, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(num) % 4


@pytest.mark.parametrize(
    ("name", "first", "last"), [("resnet10t", "fc", "conv1.0"), ("vit_tiny", "head", "patch_embed")]
)
def test_blocks_lead_from_the_output_to_the_input_and_hold_every_weight_once(name, first, last):
    net = models.build(name, 4, 16, 1)
    found = randomization.blocks(net)
    assert (next(iter(found)), list(found)[-1]) == (first, last)
    assert sorted(key for keys in found.values() for key in keys) == sorted(net.state_dict())
    assert len(found) > 5


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny"])
def test_when_every_block_is_randomized_the_maps_are_the_untrained_models(name):
    net, fresh = make(name, 0), make(name, 1)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    inputs, targets = ask()
    steps = dict(randomization.cascade(net, fresh, inputs, targets))
    assert list(steps) == list(randomization.blocks(net))
    maps = list(steps.values())
    np.testing.assert_allclose(maps[-1], vanilla_gradient(fresh, inputs, targets)[1].numpy(), rtol=1e-4, atol=1e-6)
    own = vanilla_gradient(net, inputs, targets)[1].numpy()
    assert not np.allclose(maps[0], own)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_the_cascade_explains_by_the_method_it_is_given():
    net, fresh = make("resnet10t", 0), make("resnet10t", 1)
    inputs, targets = ask()
    *_, (_, last) = randomization.cascade(net, fresh, inputs, targets, "logprob", integrated_gradients)
    expected = integrated_gradients(fresh, inputs, targets, "logprob")[1].numpy()
    np.testing.assert_allclose(last, expected, rtol=1e-4, atol=1e-6)


def test_another_architecture_is_refused():
    inputs, targets = ask()
    with pytest.raises(ValueError, match="same architecture"):
        next(randomization.cascade(make("resnet10t", 0), make("vit_tiny", 0), inputs, targets))


def test_entropy_is_that_of_numpys_histogram():
    maps = np.random.default_rng(0).standard_normal((3, 12, 12)).astype(np.float32)
    expected = [entropy(np.histogram(one.astype(np.float64), bins=100)[0], base=2) for one in maps]
    np.testing.assert_allclose(randomization.histogram_entropy(maps), expected)


def test_entropy_rises_from_one_bright_pixel_to_noise_and_is_undefined_from_nothing():
    before = np.zeros((2, 8, 8), np.float32)
    before[0, 0, 0] = 1
    noise = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    found = randomization.entropy_rise(before, noise)
    assert found[0] > 1 and np.isnan(found[1])
    np.testing.assert_allclose(randomization.entropy_rise(noise, noise), 0)


def test_the_runner_up_is_the_best_class_but_the_target():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, -5.0, -1.0]])
    assert randomization.runners_up(logits, torch.tensor([0, 1, 0])).tolist() == [1, 0, 2]
