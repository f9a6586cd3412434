"""Stability under noise against captum, and from epoch to epoch."""

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from torch import nn

from cvx import models
from cvx.attribution import integrated_gradients, vanilla_gradient
from cvx.attribution.stability import RADIUS, draws, max_sensitivity, settled, through_epochs


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3 * 25, 8), nn.Linear(8, 4)

    def forward(self, inputs):
        return self.last(torch.tanh(self.first(inputs.flatten(1))))


def ask(num=3, side=5):
    torch.manual_seed(0)
    return torch.rand(num, 3, side, side), torch.arange(num) % 4


def test_max_sensitivity_is_captums_for_the_same_noise():
    torch.manual_seed(1)
    net = Smooth()
    inputs, targets = ask()
    noise = draws((3, 5, 5), RADIUS, 10, seed=0)
    found = max_sensitivity(net, inputs, targets)
    for i in range(3):

        def explain(images, target=int(targets[i])):
            images = images[0] if isinstance(images, tuple) else images
            return (vanilla_gradient(net, images, torch.full((len(images),), target))[1],)

        def perturb(images):
            return (images + noise).clamp(0, 1)  # captum repeats the image for all draws at once

        expected = sensitivity_max(explain, inputs[i : i + 1], perturb, n_perturb_samples=10, norm_ord="fro")
        assert found[i] == pytest.approx(float(expected), rel=1e-4)


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
    moves = [(inputs + one).clamp(0, 1) - inputs for one in draws((3, 5, 5), RADIUS, 4, seed=0)]
    largest = torch.stack([(weights * move).flatten(1).norm(dim=1) for move in moves]).amax(dim=0)
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
