"""One optimizer step, worked out by hand: schedule, smoothing, clipping, decay and the moving average."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cvx import models
from cvx.config import TrainConfig
from cvx.distributed import Ranks
from cvx.training.step import make_learner

GRAY = torch.full((2, 1, 2, 2), 0.5)
"""Zero once normalized: what a linear layer makes of it is its bias."""


def make_linear(num_classes, steps=1000, **options):
    """Make a learner of one linear layer that starts at zero, by default with plain gradient descent."""
    layer = nn.Linear(4, num_classes)
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    build_args = {"name": "linear", "image_size": 2, "in_chans": 1, "mean": [0.5], "std": [0.25]}
    plain = {"optimizer": "momentum", "momentum": 0.0, "weight_decay": 0.0, "lr": 1.0, "epochs": 1}
    config = TrainConfig(**{**plain, "warmup_epochs": 0.0, "precision": "fp32", **options})
    classifier = models.Classifier(nn.Sequential(nn.Flatten(), layer), build_args)
    return make_learner(config, classifier, Ranks(), steps), layer


def first_class(num_classes):
    return torch.eye(num_classes)[[0, 0]]


def rates(learner, num):
    """Return the learning rate of each step, and the one after the last."""
    found = []
    for _ in range(num):
        found.append(learner.optimizer.param_groups[0]["lr"])
        learner.train_step(GRAY, first_class(2))
    return [*found, learner.optimizer.param_groups[0]["lr"]]


def test_the_learning_rate_rises_in_a_line_to_its_peak_and_falls_as_a_cosine_to_zero():
    learner, _ = make_linear(2, steps=6, epochs=2, warmup_epochs=2 / 3, lr=0.8)  # 12 steps, 4 of them to warm up
    rising = [0.2, 0.35, 0.5, 0.65]  # from a fourth of the peak, by a fourth of the way at each step
    half = math.sqrt(2) / 2
    falling = [0.4 * (1 + cosine) for cosine in (1, math.cos(math.pi / 8), half, math.sin(math.pi / 8))]
    falling += [0.4 * (1 - cosine) for cosine in (0, math.sin(math.pi / 8), half, math.cos(math.pi / 8), 1)]
    assert rates(learner, 12) == pytest.approx([*rising, *falling], abs=1e-9)


def test_without_a_warm_up_the_first_step_has_the_peak():
    learner, _ = make_linear(2, steps=4, lr=0.8)
    assert rates(learner, 4) == pytest.approx([0.8, 0.4 * (1 + math.sqrt(0.5)), 0.4, 0.4 * (1 - math.sqrt(0.5)), 0])


def test_a_resumed_schedule_stands_where_it_would_have_stood():
    learner, _ = make_linear(2, steps=4, lr=0.8)
    learner.resume_at(3)
    assert learner.step == 3 and rates(learner, 1) == pytest.approx([0.4 * (1 - math.sqrt(0.5)), 0])


@pytest.mark.parametrize(("smoothing", "expected"), [(0.0, 1.0), (0.2, 1.25), (0.8, 2.0)])
def test_smoothed_labels_give_their_share_to_all_classes(smoothing, expected):
    learner, layer = make_linear(4, label_smoothing=smoothing)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.5, 0.25, 0.125, 0.125]).log())  # bits: 1, 2, 3 and 3
    loss, accuracy = learner.train_step(GRAY, first_class(4))
    # a share s of the target is spread: (1 - s) 1 + s (1 + 2 + 3 + 3) / 4 bits
    assert float(loss) == pytest.approx(expected * math.log(2), rel=1e-6) and float(accuracy) == 1


@pytest.mark.parametrize(("limit", "length"), [(0.0, 0.5**0.5), (0.1, 0.1), (5.0, 0.5**0.5)])
def test_a_gradient_longer_than_allowed_is_shortened_and_no_other(limit, length):
    learner, layer = make_linear(2, max_grad_norm=limit)
    learner.train_step(GRAY, first_class(2))  # of two equal classes: the gradient is (-1/2, 1/2), in the bias alone
    side = length * 0.5**0.5
    assert layer.bias.tolist() == pytest.approx([side, -side], rel=1e-4) and not layer.weight.any()
    assert learner.grad_norm() == pytest.approx(0.5**0.5), "what is recorded is the norm before"


@pytest.mark.parametrize(("model", "patch_size"), [("test_vit", 4), ("test_resnet", 0)])
def test_weights_of_layers_decay_and_biases_norms_tokens_and_positions_do_not(model, patch_size):
    torch.manual_seed(0)
    config = TrainConfig(model=model, lr=0.1, weight_decay=0.5, warmup_epochs=0.0, precision="fp32")
    learner = make_learner(config, models.build(model, 4, 16, 1, patch_size=patch_size), Ranks(), 10)
    for weight in learner.classifier.parameters():
        nn.init.ones_(weight)
        weight.grad = torch.zeros_like(weight)  # AdamW then does nothing but take lr * decay = 1/20 off
    learner.optimizer.step()
    layers = [name for name, one in learner.classifier.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    for name, weight in learner.classifier.named_parameters():
        decays = name.rpartition(".")[0] in layers and name.endswith(".weight")
        torch.testing.assert_close(weight.detach(), torch.full_like(weight, 0.95 if decays else 1.0), msg=name)


@pytest.mark.parametrize("decay", [0.7, 0.999])
def test_the_moving_average_follows_the_weights_by_a_decay_that_warms_up(decay):
    learner, layer = make_linear(2, ema=decay)
    expected = 0.0
    for step in range(1, 11):
        learner.train_step(GRAY, first_class(2))
        keep = min(decay, 1 - step ** (-2 / 3))  # 0 at the first step, 3/4 at the eighth
        expected = keep * expected + (1 - keep) * float(layer.bias.detach()[0])
        assert float(learner.eval_model.net[1].bias.detach()[0]) == pytest.approx(expected, rel=1e-5), step
    assert not np.isclose(float(layer.bias.detach()[0]), expected, rtol=1e-2)
    assert learner.eval_model is not learner.classifier and not learner.eval_model.training


def test_without_a_moving_average_the_weights_themselves_are_judged():
    learner, _ = make_linear(2)
    assert learner.eval_model is learner.classifier
