"""A ViT that is spared what its logits do not depend on, against the model it was made of and captum."""

import pytest
import torch
from captum.attr import Saliency
from torch import nn
from torch.profiler import ProfilerActivity, profile

from cvx.attribution import attribute, vanilla_gradient
from cvx.models import build, vit_speedups
from cvx.models.fold_batchnorm import WORTHWHILE, fold_batchnorm

OPTIONS = {"patch_size": 4}


def images(num, side=16):
    return torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(num))


def vit(name="vit_tiny"):
    torch.manual_seed(1)
    model = build(name, 10, 16, **OPTIONS).eval()
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.3)  # timm starts them at zero
    return model


def close(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


@pytest.mark.parametrize("name", ["vit_tiny", "vit_mini", "deit3_small_patch16_224"])
def test_the_copy_has_the_logits_and_captums_map_of_the_model(name):
    model, inputs, targets = vit(name), images(16), torch.arange(16) % 10
    twin = fold_batchnorm(model, inputs[:1])
    assert twin is not model
    logits, attribution = vanilla_gradient(twin, inputs, targets)
    close(attribution, Saliency(model).attribute(inputs.clone().requires_grad_(), target=targets, abs=False))
    close(logits, model(inputs).detach())


def test_the_last_block_gives_the_class_token_alone_and_the_model_keeps_all():
    model, sizes = vit(), []
    for one in (fold_batchnorm(model, images(1)), model):
        one.net.blocks[-1].mlp.register_forward_hook(lambda _mlp, _inputs, output: sizes.append(output.shape[1]))
        with torch.no_grad():
            one(images(2))
    assert sizes == [1, 17]


def test_a_head_that_reads_all_tokens_is_given_all():
    import timm

    model, sizes = timm.create_model("test_vit", img_size=16, patch_size=4, global_pool="avg", num_classes=5).eval(), []
    twin = fold_batchnorm(model, images(1))
    assert twin is not model
    twin.blocks[-1].mlp.register_forward_hook(lambda _mlp, _inputs, output: sizes.append(output.shape[1]))
    twin(images(2))
    assert sizes == [17]


@pytest.mark.parametrize("shape", [(1, 17, 6), (16, 17, 6), (16, 1, 6), (16, 4, 5, 6), (16, 6)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_linear_layer_and_its_gradient_are_those_of_float64_in_every_shape(shape, with_bias):
    random = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*one, generator=random) for one in (shape, (8, 6), (8,)))
    ours, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    found = vit_speedups.linear(ours, weight, bias if with_bias else None)
    expected = exact @ weight.t().double() + (bias.double() if with_bias else 0)
    towards = torch.randn(*expected.shape, generator=random)
    found.backward(towards)
    expected.backward(towards.double())
    close(found.detach().double(), expected.detach())
    close(ours.grad.double(), exact.grad)


@pytest.mark.skipif(not vit_speedups._has_onednn(), reason="torch has no oneDNN here, or the processor no AVX")
def test_the_linear_layers_of_many_images_are_multiplied_by_onednn_both_ways():
    model, inputs = vit(), images(16)
    twin = fold_batchnorm(model, inputs[:1])
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
        vanilla_gradient(twin, inputs, torch.arange(16) % 10)
    calls = {one.key: one.count for one in seen.key_averages()}
    num = 4 * (len(model.net.blocks) - 1) + 1  # the last one: keys and values; all else there is of one token
    assert calls["aten::mkldnn_convolution"] == 2 * num + 1, "and the patches"


def test_many_images_have_the_maps_that_few_have():
    model, inputs, targets = vit("vit_mini"), images(WORTHWHILE), torch.arange(WORTHWHILE) % 10
    for one, other in zip(attribute(model, inputs, targets), vanilla_gradient(model, inputs, targets), strict=True):
        close(one, other)


def test_the_model_is_left_as_it_was():
    model = vit("vit_mini").train()
    kinds = [type(module) for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fold_batchnorm(model, images(1))
    assert [type(module) for module in model.modules()] == kinds and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
