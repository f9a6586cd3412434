"""Models that somebody has altered have the maps, and the calls of their hooks, of a plain loop over the model."""

import logging
import types

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from torch import nn
from trained_models import images, trained

from cvx import cancellation
from cvx.attribution import NotFiniteError, attribute, attribute_all
from cvx.models.fold_batchnorm import fold_batchnorm
from cvx.models.predict import logits_of

NUM, TOGETHER = 40, 8
COMPILING = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
"""torch.compile looks at the gradient of each tensor that it traces."""


def vit(pool="token"):
    torch.manual_seed(1)
    return timm.create_model("test_vit", img_size=16, patch_size=4, num_classes=10, global_pool=pool).eval()


def own_maps(model, inputs, targets, score=lambda logits: logits):
    found = []
    for start in range(0, len(inputs), TOGETHER):
        leaf, chosen = inputs[start : start + TOGETHER].clone().requires_grad_(), targets[start : start + TOGETHER]
        picked = score(model(leaf)).gather(1, chosen[:, None])
        found.append(torch.autograd.grad(picked.sum(), leaf)[0])
    return torch.cat(found)


def differ(model, side=16):
    """Return the largest relative error of 40 images' maps, against autograd on the model itself."""
    inputs, targets = images(NUM, side), torch.arange(NUM) % 10
    expected = own_maps(model, inputs, targets)
    _, attribution = attribute(model, inputs, targets, batch_size=TOGETHER)
    assert expected.flatten(1).norm(dim=1).min() > 0
    return float(((attribution - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max())


class Clamped(torch.autograd.Function):
    """Let positive gradients through only (Springenberg et al., 2014, arXiv:1412.6806)."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.clamp(min=0)


class StraightThrough(nn.GELU):
    def forward(self, input):
        found = super().forward(input)
        return input + (found - input).detach()


class Adapted(nn.Linear):
    """A linear layer with a small term of low rank beside it (Hu et al., 2021, arXiv:2106.09685)."""

    def __init__(self, old):
        super().__init__(old.in_features, old.out_features)
        self.load_state_dict(old.state_dict())
        self.down, self.up = (
            nn.Parameter(torch.randn(2, old.in_features)),
            nn.Parameter(1e-3 * torch.randn(len(old.weight), 2)),
        )

    def forward(self, input):
        return super().forward(input) + input @ self.down.t() @ self.up.t()


def of_kind(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def norm_with_clamped_gradient(model):
    for norm in of_kind(model, nn.BatchNorm2d):
        norm.register_full_backward_hook(lambda _norm, grads, _outputs: (grads[0].clamp(min=0),))


def patched_norm(model):
    for norm in of_kind(model, nn.BatchNorm2d):
        norm.forward = types.MethodType(lambda self, x: Clamped.apply(type(self).forward(self, x)), norm)


def scaled(factor):
    return lambda _module, grads, _outputs: (grads[0] * factor,)


def gelu_with_hook(model):
    for gelu in of_kind(model, nn.GELU):
        gelu.register_full_backward_hook(scaled(0.5))


def attention_with_hook(model):
    for attention in of_kind(model, Attention):
        attention.register_full_backward_hook(scaled(0.1))


def queries_and_keys_detached(model):
    for attention in of_kind(model, Attention):
        for norm in (attention.q_norm, attention.k_norm):
            norm.register_forward_hook(lambda _norm, _inputs, output: output.detach())


def straight_through(model):
    for block in model.blocks:
        block.mlp.act = StraightThrough()


def adapted(model):
    model.blocks[-1].attn.qkv = Adapted(model.blocks[-1].attn.qkv)


def own_features(model):
    plain = model.forward_features
    model.forward_features = lambda x, **more: 0.5 * plain(x, **more) + plain(x, **more).detach()


def compiled_in_place(model):
    model.compile(backend="eager")


@pytest.mark.parametrize("alter", [patched_norm, own_features, compiled_in_place])
@COMPILING
def test_an_altered_resnet_has_its_own_maps(alter):
    model = trained("test_resnet").net
    alter(model)
    assert fold_batchnorm(model, images(1)) is model
    assert differ(model) < 1e-6


@pytest.mark.parametrize(
    "alter",
    [gelu_with_hook, attention_with_hook, queries_and_keys_detached, straight_through, adapted, own_features],
)
def test_an_altered_vit_has_its_own_maps(alter):
    model = vit()
    plain = own_maps(model, images(NUM), torch.arange(NUM) % 10)
    alter(model)
    assert not torch.allclose(own_maps(model, images(NUM), torch.arange(NUM) % 10), plain, rtol=1e-3, atol=1e-6)
    assert differ(model) < 1e-5


def test_a_class_whose_backward_was_replaced_has_its_own_maps(monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 9, 3), nn.BatchNorm2d(9))
    model = nn.Sequential(*model, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(9, 10)).eval()
    assert fold_batchnorm(model, images(1)) is not model
    plain = nn.BatchNorm2d.forward
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: Clamped.apply(plain(self, x)))
    assert fold_batchnorm(model, images(1)) is model
    assert differ(model) < 1e-6


@pytest.mark.parametrize("score", ["logprob", "margin"])
def test_an_altered_models_other_scores_are_its_own_too(score):
    model, inputs, targets = vit(), images(NUM), torch.arange(NUM) % 10
    straight_through(model)
    by_hand = {"logprob": lambda x: x.log_softmax(1), "margin": lambda x: x - x.mean(1, keepdim=True)}[score]
    expected = own_maps(model, inputs, targets, by_hand)
    _, attribution = attribute(model, inputs, targets, score)
    torch.testing.assert_close(attribution, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_a_hook_on_the_last_block_sees_all_tokens_once_for_every_batch():
    model, seen = vit(), []
    model.blocks[-1].register_forward_hook(
        lambda _block, inputs, output: seen.append((*inputs[0].shape, *output.shape))
    )
    attribute(model, images(NUM), torch.arange(NUM) % 10, batch_size=TOGETHER)
    ours, _ = seen.copy(), seen.clear()
    own_maps(model, images(NUM), torch.arange(NUM) % 10)
    assert ours == seen and len(seen) == NUM // TOGETHER


def test_hooks_for_all_modules_are_called_as_often_as_on_the_model():
    model, seen = trained("test_resnet").net, []
    handle = nn.modules.module.register_module_forward_hook(lambda module, _inputs, _output: seen.append(type(module)))
    try:
        attribute(model, images(NUM), torch.arange(NUM) % 10, batch_size=TOGETHER)
        ours, _ = seen.copy(), seen.clear()
        own_maps(model, images(NUM), torch.arange(NUM) % 10)
    finally:
        handle.remove()
    assert ours == seen


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    "kind", ["spectral_norm", "weight_norm", "parametrizations.spectral_norm", "parametrizations.weight_norm"]
)
def test_a_resnet_with_normalized_weights_has_its_own_maps(kind):
    model = trained("test_resnet").net
    normalize = nn.utils
    for part in kind.split("."):
        normalize = getattr(normalize, part)
    for conv in of_kind(model, nn.Conv2d):
        normalize(conv)
    model.eval()
    with torch.no_grad():
        model(images(2))
    assert differ(model) < 1e-5


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_vit_quantized_to_int8_has_its_own_maps():
    model = torch.ao.quantization.quantize_dynamic(vit("avg"), {nn.Linear}, dtype=torch.qint8)
    model.head = nn.Linear(model.embed_dim, 10)
    assert differ(model) < 1e-6


def test_a_vit_that_adds_in_place_to_what_a_linear_layer_gives_keeps_its_fast_copy(caplog):
    torch.manual_seed(0)
    model = timm.create_model(
        "naflexvit_base_patch16_gap", img_size=32, num_classes=10, embed_dim=64, num_heads=2, depth=2
    )
    with caplog.at_level(logging.DEBUG, "cvx.models.fold_batchnorm"):
        inputs, targets = images(NUM, 32), torch.arange(NUM) % 10
        expected = own_maps(model.eval(), inputs, targets)
        _, attribution = attribute(model, inputs, targets)
    torch.testing.assert_close(attribution, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert fold_batchnorm(model, inputs[:1]) is not model and not caplog.records


def test_a_mask_of_attention_is_heeded_by_the_copy():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit, self.mask = vit(), torch.rand(17, 17) > 0.5
            self.mask[:, 0] = True

        def forward(self, inputs):
            return self.vit(inputs, attn_mask=self.mask)

    model = Masked().eval()
    assert fold_batchnorm(model, images(1)) is not model
    assert differ(model) < 1e-5


def test_a_module_whose_copy_is_itself_is_not_changed():
    class Itself(nn.Sequential):
        def __deepcopy__(self, _memo):
            return self

    model = nn.Sequential(Itself(nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10)), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    before = model[0][0].weight.clone()
    assert fold_batchnorm(model, images(1)) is model
    assert torch.equal(model[0][0].weight, before) and isinstance(model[0][1], nn.BatchNorm2d)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
@COMPILING
def test_a_wrapped_model_has_its_own_maps(wrap):
    assert differ(wrap(trained("test_resnet").net)) < 1e-4


class Convolved(nn.Module):
    """A small network; what it does beyond that is for others to say."""

    def __init__(self, then=lambda inputs, found: found):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 10)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)
        self.then = then

    def forward(self, inputs):
        found = self.norm(self.conv(inputs))
        return self.head(self.then(inputs, found.relu()).mean((2, 3)))


def test_a_backward_hook_on_batch_norm_acts_on_many_images_too():
    model = Convolved().eval()
    assert fold_batchnorm(model, images(1)) is not model
    norm_with_clamped_gradient(model)
    assert fold_batchnorm(model, images(1)) is model
    assert differ(model) < 1e-6


def test_weights_that_are_read_in_two_places_are_right_in_both():
    model = Convolved().eval()
    model.then = types.MethodType(
        lambda self, _inputs, found: F.conv_transpose2d(found, self.conv.weight)[:, :1] * found.new_ones(1, 8, 1, 1),
        model,
    )
    assert differ(model) < 1e-5


def test_a_model_called_with_other_weights_has_its_own_maps():
    class Called(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Convolved()
            self.weights = {name: torch.rand_like(value) for name, value in self.net.named_parameters()}

        def forward(self, inputs):
            return torch.func.functional_call(self.net, self.weights, (inputs,))

    assert differ(Called().eval()) < 1e-5


def failing(kind, when):
    def then(inputs, found):
        if when(inputs, found):
            raise kind("not today")
        return found

    return Convolved(then).eval()


def test_a_copy_that_fails_in_use_is_given_up_once_with_a_line_in_the_log(caplog, monkeypatch):
    copies = []

    def marked(model, *rest, **more):
        twin = fold_batchnorm(model, *rest, **more)
        copies.append(twin)
        return twin

    monkeypatch.setattr("cvx.models.fold_batchnorm.fold_batchnorm", marked)
    model = failing(IndexError, lambda inputs, _: len(inputs) > 1 and copies and used and used.pop())
    used = [True]
    with caplog.at_level(logging.DEBUG, "cvx.models.fold_batchnorm"):
        assert differ(model) < 1e-5
    assert not used and len(copies) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "the copy of Convolved failed, so the model itself is used: IndexError('not today')"
    ]


def test_what_the_model_cannot_do_either_is_raised_by_the_model():
    model = failing(KeyError, lambda inputs, _: len(inputs) > 1)
    for work in (lambda: attribute(model, images(NUM)), lambda: logits_of(model, split())):
        with pytest.raises(KeyError, match="not today"):
            work()


def split():
    from small_images import make_split

    return make_split(NUM)


def test_an_image_that_is_not_finite_is_named_by_its_place():
    inputs = images(NUM)
    inputs[37] = 0
    model = Convolved(lambda inputs, found: found / inputs.flatten(1).norm(dim=1)[:, None, None, None]).eval()
    with pytest.raises(NotFiniteError, match="image 37"):
        attribute(model, inputs, torch.arange(NUM) % 10)


def test_who_is_not_waited_for_ends_at_once():
    class GoneError(Exception):
        pass

    model, seen = Convolved(lambda _inputs, found: seen.append(len(found)) or found).eval(), []

    def check():
        if seen.count(TOGETHER) == 2:
            raise GoneError

    with cancellation.stopped_by(check), pytest.raises(GoneError):
        attribute(model, images(NUM), batch_size=TOGETHER)
    assert seen.count(TOGETHER) == 2


def test_every_class_of_an_altered_model_has_its_own_map():
    model, image = trained("test_resnet").net, images(1)
    patched_norm(model)
    for norm in of_kind(model, nn.BatchNorm2d):  # what vmap can batch
        norm.forward = types.MethodType(lambda self, x: type(self).forward(self, x) * 0.5 + x.detach(), norm)
    _, found = attribute_all(model, image)
    expected = own_maps(model, image.expand(10, -1, -1, -1), torch.arange(10))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
