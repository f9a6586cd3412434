"""Gradients are right whatever the memory format: of single layers in every one, and of whole models."""

import itertools
import os

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cvx.attribution import attribute_all, frozen, vanilla_gradient
from cvx.models import build
from cvx.models.precision import arithmetic

CPU = torch.device("cpu")
CHANNELS = 4


def layouts(values):
    """Give the same values in every order of axes in memory, and as every other one of more."""
    seen = set()
    for order in itertools.permutations(range(values.ndim)):
        back = [order.index(i) for i in range(values.ndim)]
        one = values.permute(order).clone(memory_format=torch.contiguous_format).permute(back)
        if one.stride() not in seen:
            seen.add(one.stride())
            yield one
    sparse = values.new_zeros([2 * size for size in values.shape])[tuple(slice(None, None, 2) for _ in values.shape)]
    yield sparse.copy_(values)


def gradients(layer, leaves, upstream=None):
    """Differentiate a layer with respect to its input, its kernel and its vectors."""
    leaves = [one.detach().requires_grad_() for one in leaves]
    outputs = layer(*leaves)
    upstream = torch.randn_like(outputs) if upstream is None else upstream
    found = torch.autograd.grad(outputs, leaves, upstream, allow_unused=True)
    return [outputs.detach(), *found], upstream


def wrong(layer, shapes, dtype=torch.float64):
    """Find the shapes and strides whose gradients differ from those of freshly made contiguous copies in float64."""
    torch.manual_seed(0)
    bad, num = set(), 0
    close = {torch.float64: 1e-8, torch.float32: 2e-3, torch.bfloat16: 0.2}[dtype]
    for shape in shapes:
        kernel, vectors = torch.randn(CHANNELS, CHANNELS, 3, 3).to(dtype), torch.randn(4, CHANNELS).to(dtype)
        inputs = torch.randn(shape).to(dtype)
        wide = [one.double() for one in (inputs, kernel, vectors)]
        upstream = gradients(layer, wide)[1].to(dtype)
        with arithmetic("cpu", None):
            right = gradients(layer, wide, upstream.double())[0]
        for one, other in itertools.product(layouts(inputs), list(layouts(upstream))):
            num += 1
            with arithmetic("cpu", None):
                found = gradients(layer, [one, kernel, vectors], other)[0]
            for a, b in zip(found, right, strict=True):
                if a is not None and not (a.double() - b).abs().max() <= close * (1 + b.abs().max()):
                    bad.add((shape, one.stride(), other.stride()))
    return bad, num


NORMS = {
    "batch_norm, eval": lambda x, _, v: F.batch_norm(x, v[0].detach(), 0.5 + v[1].detach().abs(), v[2], v[3]),
    "batch_norm, eval, weights at rest": lambda x, _, v: F.batch_norm(
        x, v[0].detach(), 0.5 + v[1].detach().abs(), v[2].detach(), v[3].detach()
    ),
    "batch_norm, eval, no weights": lambda x, _, v: F.batch_norm(x, v[0].detach(), 0.5 + v[1].detach().abs()),
    "batch_norm, train": lambda x, _, v: F.batch_norm(x, None, None, v[2], v[3], True),
    "instance_norm": lambda x, _, v: F.instance_norm(x, None, None, v[2], v[3]),
    "torch.batch_norm": lambda x, _, v: torch.batch_norm(
        x, v[2], v[3], v[0].detach(), 0.5 + v[1].detach().abs(), False, 0.1, 1e-5, False
    ),
}
OTHERS = {
    "group_norm, 1": lambda x, _, v: F.group_norm(x, 1, v[2], v[3]),
    "group_norm, 2": lambda x, _, v: F.group_norm(x, 2, v[2], v[3]),
    "layer_norm": lambda x, _, v: F.layer_norm(x.permute(0, 2, 3, 1), (CHANNELS,), v[2], v[3]),
    "rms_norm": lambda x, _, v: F.rms_norm(x.permute(0, 2, 3, 1), (CHANNELS,), v[2]),
    "convolution": lambda x, k, v: F.conv2d(x, k, v[0], padding=1),
    "convolution, stride 2": lambda x, k, v: F.conv2d(x, k, v[0], padding=1, stride=2),
    "convolution, dilated": lambda x, k, v: F.conv2d(x, k, v[0], padding=2, dilation=2),
    "convolution, 1 x 1": lambda x, k, v: F.conv2d(x, k[:, :, :1, :1], v[0]),
    "convolution, 1 x 1, stride 2": lambda x, k, v: F.conv2d(x, k[:, :, :1, :1], v[0], stride=2),
    "convolution, grouped": lambda x, k, v: F.conv2d(x, k[:, :2], v[0], padding=1, groups=2),
    "convolution, depthwise": lambda x, k, v: F.conv2d(x, k[:, :1], v[0], padding=1, groups=CHANNELS),
    "convolution, depthwise, stride 2": lambda x, k, v: F.conv2d(
        x, k[:, :1], v[0], padding=1, stride=2, groups=CHANNELS
    ),
    "transposed convolution": lambda x, k, v: F.conv_transpose2d(x, k, v[0], stride=2),
    "transposed convolution, depthwise": lambda x, k, v: F.conv_transpose2d(
        x, k[:, :1], v[0], stride=2, groups=CHANNELS
    ),
    "max_pool": lambda x, *_: F.max_pool2d(x, 2, ceil_mode=True),
    "max_pool, overlapping": lambda x, *_: F.max_pool2d(x, 3, 2, 1),
    "avg_pool": lambda x, *_: F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False),
    "avg_pool, overlapping": lambda x, *_: F.avg_pool2d(x, 3, 1, 1),
    "adaptive_avg_pool, 1": lambda x, *_: F.adaptive_avg_pool2d(x, 1),
    "adaptive_avg_pool, 2": lambda x, *_: F.adaptive_avg_pool2d(x, 2),
    "adaptive_max_pool, 1": lambda x, *_: F.adaptive_max_pool2d(x, 1),
    "adaptive_max_pool, 2": lambda x, *_: F.adaptive_max_pool2d(x, 2),
    "lp_pool": lambda x, *_: F.lp_pool2d(x, 2, 2, ceil_mode=True),
    "nearest": lambda x, *_: F.interpolate(x, scale_factor=2),
    "nearest-exact": lambda x, *_: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
    "bilinear": lambda x, *_: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear, corners": lambda x, *_: F.interpolate(x, size=(5, 5), mode="bilinear", align_corners=True),
    "bilinear, antialias": lambda x, *_: F.interpolate(x, size=(2, 2), mode="bilinear", antialias=True),
    "bicubic": lambda x, *_: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "area": lambda x, *_: F.interpolate(x, size=(2, 2), mode="area"),
    "pixel_shuffle": lambda x, *_: F.pixel_shuffle(x, 2),
    "channel_shuffle": lambda x, *_: F.channel_shuffle(x, 2),
    "pad": lambda x, *_: F.pad(x, (1, 1, 1, 1), mode="replicate"),
    "unfold": lambda x, *_: F.unfold(x, 3, padding=1),
    "prelu": lambda x, _, v: F.prelu(x, v[2]),
    "softmax": lambda x, *_: F.softmax(x, 1),
    "linear": lambda x, k, v: F.linear(x.permute(0, 2, 3, 1), k[:, :, 0, 0], v[0]),
}
SMALL = [(1, CHANNELS, 2, 3), (2, CHANNELS, 1, 3), (2, CHANNELS, 3, 1), (1, CHANNELS, 1, 3)]
WIDE = [(n, CHANNELS, h, w) for n, h, w in itertools.product((1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4)) if h * w > 1]
ALL = bool(os.environ.get("CVX_SCAN"))
"""Whether all shapes and sizes are looked at, which takes hours: `make test-long` does."""


@pytest.mark.parametrize("name", NORMS)
def test_normalization_has_the_gradient_of_its_contiguous_copy_in_every_memory_format(name):
    bad, num = wrong(NORMS[name], SMALL)
    assert num > 400 and not bad


@pytest.mark.parametrize("name", NORMS)
def test_normalization_of_a_contiguous_map_has_the_gradient_of_finite_differences(name):
    torch.manual_seed(0)
    with arithmetic("cpu", None):
        for shape in [(1, CHANNELS, 3, 3), (2, CHANNELS, 1, 3), (2, CHANNELS, 3, 2)]:
            inputs = torch.randn(shape, dtype=torch.float64, requires_grad=True)
            vectors = torch.randn(4, CHANNELS, dtype=torch.float64)
            assert torch.autograd.gradcheck(lambda x, v=vectors: NORMS[name](x, None, v), inputs)


@pytest.mark.slow
@pytest.mark.timeout(20_000 if ALL else 300)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", [*NORMS, *OTHERS])
def test_every_layer_has_the_gradient_of_its_contiguous_copy_in_every_memory_format(name, dtype):
    if dtype == torch.bfloat16 and name in ("convolution, stride 2", "convolution, depthwise, stride 2"):
        pytest.skip("oneDNN leaves weights' gradients unwritten; training in bfloat16 looks out for it")
    if dtype == torch.bfloat16 and name in ("instance_norm", "group_norm, 2"):
        pytest.skip("of two values, the difference is lost to rounding")
    if dtype == torch.bfloat16 and name == "bilinear, antialias":
        pytest.skip("torch does not have it in bfloat16 on a CPU")
    assert not wrong((NORMS | OTHERS)[name], WIDE if ALL else SMALL[:3:2], dtype)[0]


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_of_volumes_has_the_gradient_of_its_contiguous_copy_in_every_memory_format(training):
    name = "batch_norm, train" if training else "batch_norm, eval"
    shapes = [(n, CHANNELS, d, h, w) for n, d, h, w in itertools.product((1, 2), repeat=4) if n * d * h * w > 1]
    assert not wrong(NORMS[name], shapes if ALL else shapes[2:3])[0]


def seen_as_channels_last(layer):
    """Let a layer see tokens as a map of 3 x 3, as LeViT does."""
    return lambda tokens: layer(tokens.permute(0, 2, 1).reshape(len(tokens), CHANNELS, 3, 3))


def settled(layer):
    """Give a layer's weights and statistics random values."""
    generator = torch.Generator().manual_seed(0)
    for name, one in layer.named_buffers():
        if one.is_floating_point():
            one.uniform_(*((0.5, 2) if name.endswith("var") else (-1, 1)), generator=generator)
    for one in layer.parameters():
        one.data.uniform_(0.5, 2, generator=generator)
    return layer.eval()


def norm_act(channels):
    from timm.layers import BatchNormAct2d

    return BatchNormAct2d(channels, act_layer=nn.Sigmoid)


LAYERS = {
    "BatchNorm2d": lambda: nn.BatchNorm2d(CHANNELS),
    "without weights": lambda: nn.BatchNorm2d(CHANNELS, affine=False),
    "without statistics": lambda: nn.BatchNorm2d(CHANNELS, track_running_stats=False),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(CHANNELS),
    "timm's with activation": lambda: norm_act(CHANNELS),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(CHANNELS, affine=True),
    "with an activation in place": lambda: nn.Sequential(nn.BatchNorm2d(CHANNELS), nn.SiLU(inplace=True)),
    "without statistics, in place": lambda: nn.Sequential(
        nn.BatchNorm2d(CHANNELS, track_running_stats=False), nn.SiLU(inplace=True)
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_one_image_of_tokens_seen_as_a_map_has_the_gradient_of_finite_differences(name):
    layer = settled(LAYERS[name]().double())
    tokens = torch.rand(1, 9, CHANNELS, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    weights = torch.randn(1, CHANNELS, 3, 3, generator=torch.Generator().manual_seed(2)).double()
    with frozen(layer, CPU):
        assert torch.autograd.gradcheck(
            lambda x: (seen_as_channels_last(layer)(x) * weights).sum(), tokens, check_batched_grad=True
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mixed", [False, True])
def test_half_precision_rounds_and_no_more(dtype, mixed):
    layer = settled(nn.BatchNorm2d(CHANNELS))
    layer = layer if mixed else layer.to(dtype)
    tokens = torch.rand(1, 9, CHANNELS, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    weights = torch.randn(1, CHANNELS, 3, 3, generator=torch.Generator().manual_seed(2)).to(dtype)
    with frozen(layer, CPU):
        outputs = seen_as_channels_last(layer)(tokens)
        (found,) = torch.autograd.grad(outputs, tokens, weights)
    assert outputs.dtype == found.dtype == dtype
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    right = (weights * scale[:, None, None]).flatten(2).permute(0, 2, 1)
    torch.testing.assert_close(found.float(), right.float(), rtol=0.03, atol=0.01)


def test_a_training_step_on_one_image_has_the_gradients_and_statistics_of_its_contiguous_copy():
    def step(inputs):
        layer = nn.BatchNorm2d(CHANNELS).double().train()
        with arithmetic("cpu", torch.float32):
            outputs = layer(inputs)
        outputs.backward(weights)
        return layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var

    torch.manual_seed(0)
    weights, tokens = torch.randn(1, CHANNELS, 3, 3).double(), torch.rand(1, 9, CHANNELS).double()
    maps = tokens.permute(0, 2, 1).reshape(1, CHANNELS, 3, 3)
    centered = maps - maps.mean((2, 3), keepdim=True)
    invstd = (centered.square().mean((0, 2, 3)) + 1e-5).rsqrt()
    found = step(maps.as_strided(maps.shape, (1, 1, 12, 4)))  # as contiguous as before, but for the stride of one image
    torch.testing.assert_close(found[0], (weights * centered).sum((0, 2, 3)) * invstd)
    torch.testing.assert_close(found[1], weights.sum((0, 2, 3)))
    torch.testing.assert_close(found[2], 0.1 * maps.mean((0, 2, 3)))
    torch.testing.assert_close(found[3], 0.9 + 0.1 * maps.var((0, 2, 3)))


def test_a_batch_norm_with_a_forward_or_hooks_of_its_own_keeps_them():
    layer, tokens = settled(nn.BatchNorm2d(CHANNELS).double()), torch.rand(1, 9, CHANNELS).double().requires_grad_()
    scale = (layer.weight / (layer.running_var + layer.eps).sqrt()).detach()

    def gradient():
        with frozen(layer, CPU):
            return torch.autograd.grad(seen_as_channels_last(layer)(tokens).sum(), tokens)[0]

    torch.testing.assert_close(gradient(), scale.expand(1, 9, -1))
    hook = layer.register_forward_hook(lambda _module, _inputs, outputs: 3 * outputs)
    torch.testing.assert_close(gradient(), 3 * scale.expand(1, 9, -1))
    hook.remove()
    hook = layer.register_full_backward_hook(lambda _module, grads, _outputs: (grads[0].clamp(max=0.1),))
    torch.testing.assert_close(gradient(), scale.expand(1, 9, -1).clamp(max=0.1))
    hook.remove()
    layer.forward = lambda inputs: inputs * 5
    torch.testing.assert_close(gradient(), torch.full((1, 9, CHANNELS), 5.0).double())


def test_statistics_or_weights_that_come_from_the_image_pass_their_gradients_on():
    def normalized(x):
        return F.batch_norm(x, mean, var, x.mean((0, 2, 3)), x.amax((0, 2, 3))).square().sum()

    mean, var = torch.rand(2, CHANNELS).double()
    maps = torch.rand(1, CHANNELS, 2, 3).double().requires_grad_()
    with frozen(nn.Identity(), CPU):
        assert torch.autograd.gradcheck(normalized, maps)


def test_captum_itself_inside_frozen_gives_the_gradient_of_a_batch_of_two():
    from captum.attr import Saliency

    torch.manual_seed(0)
    model, images = settled(build("levit_128s", 10, 16).double()), torch.rand(1, 3, 16, 16).double()
    with frozen(model, CPU):
        explain = Saliency(model).attribute
        one = explain(images.clone().requires_grad_(), target=3, abs=False)
        two = explain(images.repeat(2, 1, 1, 1).requires_grad_(), target=3, abs=False)
    torch.testing.assert_close(one[0], two[1])


def agrees(model, inputs, attribution, targets):
    """Hold maps against finite differences along eight random directions: the largest error, and the largest slope."""
    directions = torch.randn(8, *inputs.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    step = 1e-8  # a longer one meets the kink of some ReLU
    with torch.no_grad():
        ends = [
            model((inputs + sign * step * directions).flatten(0, 1)).view(8, *targets.shape, -1) for sign in (1, -1)
        ]
    slopes = ((ends[0] - ends[1]) / (2 * step)).gather(2, targets.expand(8, -1)[..., None])[..., 0]
    found = (directions * attribution.double()).sum((2, 3, 4))
    return float((found - slopes).abs().max()), float(slopes.abs().max())


def check_family(name, num, side):
    torch.manual_seed(0)
    model = settled_model(build(name, 10, side), side)
    inputs = torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(num), dtype=torch.float64)
    targets = torch.arange(num) + 3
    maps = {"gradient": vanilla_gradient(model, inputs, targets)[1]}
    if num == 1:
        maps["all classes"] = attribute_all(model, inputs)[1][3:4]
    for attribution in maps.values():
        error, largest = agrees(model, inputs, attribution, targets)
        assert largest > 0 and error <= 2e-2 * largest  # a kink met all the same is 1e-2, values in a wrong order are 1


def settled_model(model, side):
    """Give every BatchNorm the statistics of some images, so that signals neither die nor explode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = 1.0
    model.double().train()
    with torch.no_grad():
        model(torch.rand(16, 3, side, side, generator=torch.Generator().manual_seed(9), dtype=torch.float64))
    return model.eval()


QUICK = [("test_resnet", 16), ("levit_128s", 16), ("levit_128s", 32), ("mobilenetv3_small_050", 32)]
FAMILIES = [  # none that computes in float32 whatever its weights, as EfficientViT-B does: its differences are rounded
    "resnet10t",
    "test_resnet",
    "test_vit",
    "test_efficientnet",
    "test_convnext",
    "vit_tiny_patch16_224",
    "levit_128s",
    "xcit_nano_12_p16_224",
    "convnext_atto",
    "efficientnet_b0",
    "mobilenetv3_small_050",
    "regnetx_002",
    "densenet121",
    "repvgg_a0",
    "ghostnet_050",
    "mobilevit_xxs",
    "efficientformerv2_s0",
    "fastvit_t8",
    "edgenext_xx_small",
    "hardcorenas_a",
    "mixnet_s",
    "lcnet_035",
    "starnet_s1",
    "swiftformer_xs",
    "efficientvit_m0",
    "shvit_s1",
    "pit_ti_224",
    "poolformerv2_s12",
    "dla34",
    "res2net50_26w_4s",
    "mobilenetv4_conv_small_035",
    "repghostnet_050",
    "semnasnet_050",
    "vgg11_bn",
    "cspresnet50",
    "coat_lite_tiny",
    "convit_tiny",
    "visformer_tiny",
    "mobileone_s0",
    "tinynet_e",
]


@pytest.mark.parametrize("num", [1, 2])
@pytest.mark.parametrize(("name", "side"), QUICK)
def test_maps_agree_with_finite_differences(name, side, num):
    check_family(name, num, side)


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, 2])
@pytest.mark.parametrize("side", [32, 64] if ALL else [32])
@pytest.mark.parametrize("name", FAMILIES)
def test_maps_of_every_family_agree_with_finite_differences(name, side, num):
    check_family(name, num, side)
