"""Training steps: the arithmetic that is right for model and processor, and what optimizers keep."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F

from cvx import models
from cvx.config import TrainConfig
from cvx.distributed import Ranks
from cvx.models.precision import arithmetic, pick_precision, strides_past_the_map
from cvx.training.saved_state import load_state, save_state
from cvx.training.step import make_learner

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("model", "size", "stem", "expected"),
    [("resnet10t", 8, "timm", True), ("resnet18", 8, "auto", False), ("resnet18", 32, "timm", False), ("vit_mini", 8, "auto", False)],
)  # fmt: skip
def test_strides_past_a_map_that_is_narrower_are_found(model, size, stem, expected):
    classifier = models.build(model, 10, size, 1, stem=stem).train()
    assert strides_past_the_map(classifier) is expected
    assert classifier.training and not any(module._forward_pre_hooks for module in classifier.modules())


def one_convolution(kernel, stride, side, groups, padding):
    net = torch.nn.Conv2d(16, 16, kernel, stride, padding, groups=groups, bias=False)
    facts = {"name": "one convolution", "image_size": side, "in_chans": 16, "mean": [0.0] * 16, "std": [1.0] * 16}
    return models.Classifier(torch.nn.Sequential(net.to(memory_format=torch.channels_last), torch.nn.Flatten()), facts)


@pytest.mark.parametrize("groups", [1, 4, 16])
@pytest.mark.parametrize(
    ("kernel", "stride", "side", "padding", "expected"),
    [(3, 2, 1, 1, True), (3, 2, 2, 1, False), (3, 3, 2, 1, True), (7, 4, 3, 3, True), (7, 4, 4, 3, False), (2, 4, 3, 0, False)],
)  # fmt: skip
def test_what_onednn_leaves_unwritten_is_found_by_stride_and_width(kernel, stride, side, groups, padding, expected):
    assert strides_past_the_map(one_convolution(kernel, stride, side, groups, padding)) is expected


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_strided_convolutions_that_may_be_bfloat16_have_the_gradients_of_float64_but_for_rounding(groups):
    torch.manual_seed(0)
    refused = []
    for kernel, stride, side in itertools.product((2, 3, 5), (1, 2, 3, 4), (1, 2, 3, 4)):
        classifier = one_convolution(kernel, stride, side, groups, kernel // 2)
        net = classifier.net[0]
        if strides_past_the_map(classifier):
            refused.append((stride, side))
            continue
        for height in (1, 3, side):
            inputs = torch.randn(2, 16, height, side).contiguous(memory_format=torch.channels_last)
            with arithmetic("cpu", torch.bfloat16):
                found = net(inputs)
            weights = torch.randn(found.shape)
            (rounded,) = torch.autograd.grad((found.float() * weights).sum(), net.weight)
            wide = net.weight.detach().double().requires_grad_()
            output = F.conv2d(inputs.double(), wide, None, stride, kernel // 2, 1, groups)
            (exact,) = torch.autograd.grad((output * weights).sum(), wide)
            assert (rounded - exact).norm() < 0.02 * exact.norm() + 1e-6, (kernel, stride, height, side)
    assert set(refused) == {(stride, side) for stride in (2, 3, 4) for side in range(1, stride)}


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
        with arithmetic("cpu", precision):
            logits = classifier(inputs)
        F.cross_entropy(logits.float(), targets).backward()
        return torch.cat([p.grad.flatten() for p in classifier.parameters()])

    exact, rounded = gradient(torch.float32), gradient(torch.bfloat16)
    assert torch.isfinite(rounded).all()
    assert F.cosine_similarity(exact, rounded, dim=0) > 0.98


@pytest.mark.parametrize(("channels", "side", "stride"), [(128, 4, 1), (160, 7, 2), (128, 2, 1)])
def test_a_convolution_of_small_maps_has_the_gradients_of_float64_but_for_rounding(channels, side, stride):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(channels, 192, 3, stride, 1).to(memory_format=torch.channels_last)
    inputs = torch.randn(8, channels, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    with arithmetic("cpu", torch.bfloat16):
        found = conv(inputs)
    weights = torch.randn(found.shape)
    leaves = (inputs, conv.weight, conv.bias)
    rounded = torch.autograd.grad((found.float() * weights).sum(), leaves)
    assert found.dtype == torch.bfloat16 and found.is_contiguous(memory_format=torch.channels_last)
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    exact = F.conv2d(*wide, stride, 1)
    for one, other in zip(rounded, torch.autograd.grad((exact * weights).sum(), wide), strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.006 * other.norm()
    assert (found - exact).norm() < 0.006 * exact.norm()


def test_the_small_convolutions_are_what_computes_them():
    from cvx.models.precision import _Convolution

    conv = torch.nn.Conv2d(128, 128, 3, padding=1)
    with arithmetic("cpu", torch.bfloat16):
        small, large = conv(torch.rand(2, 128, 4, 4)), conv(torch.rand(2, 128, 5, 5))
    with arithmetic("cpu", torch.bfloat16, compiled=True):
        plain = conv(torch.rand(2, 128, 4, 4))
    made = f"{_Convolution.__name__}Backward"

    def nodes(tensor):
        return {type(node).__name__ for node in _walk(tensor.grad_fn)}

    assert made in nodes(small) and made not in nodes(large) | nodes(plain)


def _walk(node):
    yield node
    for other, _ in node.next_functions:
        if other is not None:
            yield from _walk(other)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_fused_optimizer_steps_as_torch_says(name):
    torch.manual_seed(0)
    config = TrainConfig(
        dataset="digits", model="test_resnet", epochs=2, warmup_epochs=0, optimizer=name, precision="fp32"
    )
    learner = make_learner(config, models.build("test_resnet", 10, 16), Ranks(), 10)
    plain = copy.deepcopy(learner)
    for group in plain.optimizer.param_groups:
        assert group["fused"]
        group["fused"] = False
    for _ in range(3):
        inputs, targets = torch.rand(4, 3, 16, 16), F.one_hot(torch.arange(4), 10).float()
        learner.train_step(inputs, targets)
        plain.train_step(inputs, targets)
    for one, other in zip(learner.classifier.parameters(), plain.classifier.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_fused_optimizer_goes_on_where_it_was_with_weights_in_channels_last(tmp_path):
    def fresh():
        torch.manual_seed(0)
        net = torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        return net, torch.optim.AdamW(net.parameters(), lr=0.01, fused=True)

    def step(net, optimizer):
        optimizer.zero_grad()
        net(torch.arange(384.0).reshape(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()

    (net, optimizer), (other, resumed) = fresh(), fresh()
    step(net, optimizer)
    save_state(tmp_path / "state", {"net": net}, optimizer, {})
    load_state(tmp_path / "state", {"net": other}, resumed)
    for one in ((net, optimizer), (other, resumed)):
        step(*one)
    assert torch.equal(net.weight, other.weight) and torch.equal(net.bias, other.bias)
