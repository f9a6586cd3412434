"""Training steps compute in the arithmetic that is right for model and processor."""

import pytest
import torch
import torch.nn.functional as F

from cvx import models
from cvx.learner import _arithmetic, pick_precision, strides_over_a_point

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("model", "size", "stem", "expected"),
    [("resnet10t", 8, "timm", True), ("resnet18", 8, "auto", False), ("resnet18", 32, "timm", False), ("vit_mini", 8, "auto", False)],
)  # fmt: skip
def test_strides_over_a_single_pixel_are_found(model, size, stem, expected):
    classifier = models.build(model, 10, size, 1, stem=stem).train()
    assert strides_over_a_point(classifier) is expected
    assert classifier.training and not any(module._forward_pre_hooks for module in classifier.modules())


def test_auto_takes_float32_where_bfloat16_would_give_wrong_gradients():
    assert pick_precision("auto", models.build("resnet10t", 10, 8, 1, stem="timm"), CPU) == torch.float32


def test_asking_for_wrong_gradients_is_refused():
    with pytest.raises(ValueError, match="wrong gradients on a CPU.*use precision=fp32, a larger image_size"):
        pick_precision("bf16", models.build("resnet10t", 10, 8, 1, stem="timm"), CPU)


@pytest.mark.parametrize(("model", "patch_size"), [("resnet18", 0), ("vit_mini", 4)])
def test_gradients_in_bfloat16_are_those_of_float32_but_for_rounding(model, patch_size):
    torch.manual_seed(0)
    classifier = models.build(model, 10, 16, 3, patch_size=patch_size).train()
    inputs, targets = torch.rand(32, 3, 16, 16), torch.arange(32) % 10

    def gradient(precision):
        classifier.zero_grad()
        with _arithmetic("cpu", precision):
            logits = classifier(inputs)
        F.cross_entropy(logits.float(), targets).backward()
        return torch.cat([p.grad.flatten() for p in classifier.parameters()])

    exact, rounded = gradient(torch.float32), gradient(torch.bfloat16)
    assert torch.isfinite(rounded).all()
    assert F.cosine_similarity(exact, rounded, dim=0) > 0.98
