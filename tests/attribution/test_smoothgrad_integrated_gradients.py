"""SmoothGrad and Integrated Gradients: algebra on linear and quadratic models, completeness, and the random state."""

import pytest
import torch
from torch import nn

from cvx.attribution import SCORES, NotFiniteError, attribute, integrated_gradients, smoothgrad, vanilla_gradient
from cvx.attribution.smoothgrad_integrated_gradients import NOISE, NUM_SAMPLES
from cvx.models import build


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 3)

    def forward(self, inputs):
        return self.layer(inputs.flatten(1))


class Square(nn.Module):
    """Logits k * x**2 / 2 summed over pixels: the gradient k * x, so its mean under noise is k * (x + mean noise)."""

    def __init__(self):
        super().__init__()
        self.factors = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, inputs):
        return inputs.square().sum((1, 2, 3))[:, None] * self.factors / 2


def images(num, side=2, channels=3):
    return torch.rand(num, channels, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return build("test_vit", 5, 16).eval()


def test_smoothgrad_of_a_linear_model_is_its_gradient():
    model, inputs, targets = Linear(), images(2), torch.tensor([2, 0])
    expected = vanilla_gradient(model, inputs, targets)
    for array, other in zip(smoothgrad(model, inputs, targets), expected, strict=True):
        torch.testing.assert_close(array, other)


def test_smoothgrad_averages_over_noise_of_the_published_width():
    inputs = images(1, side=64)
    _, attribution = smoothgrad(Square(), inputs, torch.tensor([1]))
    mean_noise = attribution / 2 - inputs
    assert abs(float(mean_noise.mean())) < 1e-3
    width = float(mean_noise.std()) * NUM_SAMPLES**0.5
    assert width == pytest.approx(NOISE, rel=0.03)


def test_smoothgrad_is_the_same_in_every_batch_and_every_call(vit):
    inputs, targets = images(3, side=16), torch.tensor([0, 4, 2])
    together = smoothgrad(vit, inputs, targets)[1]
    torch.rand(7)  # another random state
    alone = attribute(vit, inputs, targets, method="smoothgrad", batch_size=1)[1]
    torch.testing.assert_close(alone, together)
    assert not torch.equal(smoothgrad(vit, inputs, targets, seed=1)[1], together)


def test_smoothgrad_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    smoothgrad(Square(), images(2), torch.tensor([0, 1]))
    assert torch.equal(torch.get_rng_state(), before)


def test_integrated_gradients_of_a_linear_model_is_weight_times_pixel():
    model, inputs, targets = Linear(), images(2), torch.tensor([2, 0])
    _, attribution = integrated_gradients(model, inputs, targets)
    torch.testing.assert_close(attribution, (model.layer.weight[targets].view(2, 3, 2, 2) * inputs).detach())


def test_integrated_gradients_of_a_square_is_half_its_gradient_times_the_pixel():
    inputs = images(2)
    _, attribution = integrated_gradients(Square(), inputs, torch.tensor([2, 0]))
    torch.testing.assert_close(attribution, torch.tensor([3.0, 1.0])[:, None, None, None] * inputs.square() / 2)


@pytest.mark.parametrize("score", SCORES)
def test_integrated_gradients_add_up_to_the_difference_from_a_black_image(vit, score):
    inputs, targets = images(2, side=16), torch.tensor([1, 3])
    logits, attribution = integrated_gradients(vit, inputs, targets, score)
    with torch.no_grad():
        black = vit(torch.zeros_like(inputs))
        torch.testing.assert_close(logits, vit(inputs))
    turn = {
        "logit": lambda x: x,
        "logprob": lambda x: x.log_softmax(1),
        "margin": lambda x: x - x.mean(1, keepdim=True),
    }[score]
    difference = (turn(logits) - turn(black)).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(
        attribution.sum((1, 2, 3)), difference, rtol=0, atol=1e-3 * float(difference.abs().max())
    )


@pytest.mark.parametrize("method", [smoothgrad, integrated_gradients])
def test_opinions_work_where_gradients_are_off_and_refuse_what_the_gradient_refuses(method):
    model, inputs = Linear(), images(2)
    expected = method(model, inputs, torch.tensor([2, 0]))[1]
    with torch.inference_mode():
        torch.testing.assert_close(method(model, images(2), torch.tensor([2, 0]))[1], expected)
    with pytest.raises(ValueError, match="targets must lie in 0…2"):
        method(model, inputs, torch.tensor([2, 3]))
    with pytest.raises(ValueError, match="divide by 255"):
        method(model, inputs * 255, torch.tensor([2, 0]))
    logits, attribution = method(model, inputs[:0], torch.zeros(0).long())
    assert logits.shape == (0, 3) and attribution.shape == (0, 3, 2, 2)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_opinion_that_is_not_finite_names_its_image(batch_size):
    class Breaking(Linear):
        """NaN in the gradient where the first pixel is black."""

        def forward(self, inputs):
            root = inputs[:, :1, 0, 0].sqrt()
            return super().forward(inputs) + root * root

    inputs, targets = images(3), torch.tensor([0, 1, 2])
    inputs[1, 0, 0, 0] = 0
    with pytest.raises(NotFiniteError, match="^image 1: NaN or infinity in its attribution"):
        attribute(Breaking(), inputs, targets, method="integrated_gradients", batch_size=batch_size)
