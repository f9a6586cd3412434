"""A ViT that is spared what its logits do not depend on, against the model it was made of and captum."""

import pytest
import torch
from captum.attr import Saliency
from torch import nn

from cvx.attribution import attribute, vanilla_gradient
from cvx.folding import WORTHWHILE, folded
from cvx.models import build

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
    model, inputs, targets = vit(name), images(3), torch.tensor([1, 7, 0])
    twin = folded(model, inputs[:1])
    assert twin is not model
    logits, attribution = vanilla_gradient(twin, inputs, targets)
    close(attribution, Saliency(model).attribute(inputs.clone().requires_grad_(), target=targets, abs=False))
    close(logits, model(inputs).detach())


def test_the_last_block_gives_the_class_token_alone_and_the_model_keeps_all():
    model, sizes = vit(), []
    model.net.blocks[-1].mlp.register_forward_hook(lambda _mlp, _inputs, output: sizes.append(output.shape[1]))
    twin = folded(model, images(1))
    sizes.clear()
    with torch.no_grad():
        twin(images(2))
        model(images(2))
    assert sizes == [1, 17]


def test_a_head_that_reads_all_tokens_is_given_all():
    import timm

    model, sizes = timm.create_model("test_vit", img_size=16, patch_size=4, global_pool="avg", num_classes=5).eval(), []
    model.blocks[-1].mlp.register_forward_hook(lambda _mlp, _inputs, output: sizes.append(output.shape[1]))
    folded(model, images(1))(images(2))
    assert set(sizes) == {17}


def test_many_images_have_the_maps_that_few_have():
    model, inputs, targets = vit("vit_mini"), images(WORTHWHILE), torch.arange(WORTHWHILE) % 10
    for one, other in zip(attribute(model, inputs, targets), vanilla_gradient(model, inputs, targets), strict=True):
        close(one, other)


def test_the_model_is_left_as_it_was():
    model = vit("vit_mini").train()
    kinds = [type(module) for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded(model, images(1))
    assert [type(module) for module in model.modules()] == kinds and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
