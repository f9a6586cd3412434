"""Stability under noise against captum, and from epoch to epoch."""

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from captum.metrics import sensitivity_max
from torch import nn

from cvx import models
from cvx.attribution import METHODS, integrated_gradients
from cvx.metrics.convergence import settled, through_epochs
from cvx.metrics.sensitivity import RADIUS, draws, max_sensitivity


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3 * 25, 8), nn.Linear(8, 4)

    def forward(self, inputs):
        return self.last(torch.tanh(self.first(inputs.flatten(1))))


def ask(num=3, side=5):
    torch.manual_seed(0)
    return torch.rand(num, 3, side, side), torch.arange(num) % 4


def saturated(images):
    """Push most pixels to an end of the range, as the background and strokes of a digit are."""
    return (3 * images - 1).clamp(0, 1)


@pytest.mark.parametrize("change", [torch.clone, saturated])
def test_max_sensitivity_is_captums_for_the_same_noise(change):
    torch.manual_seed(1)
    net = Smooth()
    inputs, targets = ask()
    inputs = change(inputs)
    noise = draws((3, 5, 5), RADIUS, 10, seed=0)
    found = max_sensitivity(net, inputs, targets)
    for i in range(3):

        def explain(images, target=int(targets[i])):
            images = images[0] if isinstance(images, tuple) else images
            leaf = images.detach().clone().requires_grad_()
            return (Saliency(net).attribute(leaf, target=target, abs=False),)

        def perturb(images):
            return images + noise  # captum repeats the image for all draws at once

        expected = sensitivity_max(explain, inputs[i : i + 1], perturb, n_perturb_samples=10)
        assert found[i] == pytest.approx(float(expected), rel=1e-4)


class Cubic(nn.Module):
    """Score the sum of cubes: each pixel's gradient is 3 x², so noise d changes it by 3 (2 x d + d²)."""

    def forward(self, inputs):
        return (inputs**3).flatten(1).sum(dim=1, keepdim=True)


def test_pixels_at_the_ends_meet_the_noise_in_full():
    inputs = torch.zeros(2, 1, 6, 6)
    inputs[0, :, ::2], inputs[1] = 1, 1
    found = max_sensitivity(Cubic(), inputs, torch.zeros(2, dtype=torch.int64), num=5)
    noise = draws((1, 6, 6), RADIUS, 5, seed=0).double()
    changes = [(2 * inputs * one + one**2).flatten(1).norm(dim=1) for one in noise]
    expected = torch.stack(changes).amax(dim=0) / (inputs.double() ** 2).flatten(1).norm(dim=1)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)


def test_images_themselves_must_lie_in_zero_to_one():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 0…1.01"):
        max_sensitivity(Cubic(), torch.tensor([[[[0.0, 1.01]]]]), torch.tensor([0]))


@pytest.mark.parametrize("explain", METHODS.values(), ids=METHODS)
def test_noise_may_leave_the_range_for_every_method_but_no_farther_than_its_radius(explain):
    inputs, targets = torch.tensor([[[[-0.1, 1.1]]]]), torch.tensor([0])
    explain(Cubic(), inputs, targets, slack=0.1)
    for slack in ({}, {"slack": 0.05}):
        with pytest.raises(ValueError, match=r"got -0\.1…1\.1"):
            explain(Cubic(), inputs, targets, **slack)


def test_a_linear_models_maps_do_not_move_and_a_zero_map_is_undefined():
    inputs, targets = ask()
    net = nn.Sequential(nn.Flatten(), nn.Linear(75, 4))
    np.testing.assert_allclose(max_sensitivity(net, inputs, targets), 0, atol=1e-7)
    with torch.no_grad():
        net[1].weight[1] = 0
    assert np.isnan(max_sensitivity(net, inputs, targets)).tolist() == [False, True, False]


def test_integrated_gradients_of_a_linear_model_move_as_the_image_does():
    inputs, targets = ask()
    net = nn.Sequential(nn.Flatten(), nn.Linear(75, 4))
    found = max_sensitivity(net, inputs, targets, num=4, explain=integrated_gradients)
    weights = net[1].weight.detach()[targets].reshape(inputs.shape)
    moves = weights * draws((3, 5, 5), RADIUS, 4, seed=0)[:, None]
    largest = moves.flatten(2).norm(dim=2).amax(dim=0)
    expected = largest / (weights * inputs).flatten(1).norm(dim=1)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3)


def test_more_noise_moves_a_networks_maps_more():
    torch.manual_seed(0)
    net = models.build("vit_tiny", 4, 5, 3).eval()
    inputs, targets = ask()
    little, much = (max_sensitivity(net, inputs, targets, radius=radius, num=3) for radius in (0.001, 0.2))
    assert (little < much).all() and (little > 0).all()


def test_noise_stays_in_its_box_and_is_the_same_every_time():
    first = draws((1, 30, 30), 0.02, 4, seed=3)
    assert first.abs().max() <= 0.02 and abs(float(first.mean())) < 1e-3
    torch.testing.assert_close(first, draws((1, 30, 30), 0.02, 4, seed=3))


def test_epochs_are_compared_with_the_last_one_and_with_the_one_before():
    random = np.random.default_rng(0)
    maps = [random.standard_normal((2, 1, 8, 8), dtype=np.float32) for _ in range(2)]
    to_last, to_previous = through_epochs([maps[0], maps[1], maps[1]])
    for name in to_last:
        np.testing.assert_allclose(to_last[name][1:], 1, atol=1e-9)
        np.testing.assert_allclose(to_previous[name][1], to_last[name][0])
        np.testing.assert_allclose(to_previous[name][2], 1, atol=1e-9)
        assert np.isnan(to_previous[name][0]).all()


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ([0.0, 0.5, 0.95, 1.0], 2),
        ([0.0, 0.95, 0.5, 1.0], 3),
        ([1.0, 1.0, 1.0], 0),
        ([0.3], 0),
        ([1.0, 0.05, 0.0], 1),
        ([0.5, 0.9, 0.5], 2),
    ],
)
def test_values_settle_where_they_stay_near_the_last(values, index):
    assert settled(values) == index


def test_nothing_cannot_settle():
    with pytest.raises(ValueError, match="no values"):
        settled([])
