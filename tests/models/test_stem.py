"""Small images get stems that see every pixel at the resolution the rest of the network was made for."""

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import interpolate

from cvx.models import build
from cvx.models.stem import anatomy_of, divisors, fit_stem


def stem_of(name, size, **options):
    """Return the fitted first convolution and the side of the last feature map."""
    with torch.device("meta"):
        classifier = build(name, 10, size, **options)
        features = classifier.eval().net.forward_features(torch.zeros(1, 3, size, size))
    return classifier.net.get_submodule(anatomy_of(name).convs[0].path), features.shape[-1]


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "resnet10t",
        "resnet26d",
        "resnext50_32x4d",
        "wide_resnet50_2",
        "seresnet18",
        "skresnet18",
        "res2net50_26w_4s",
        "resnest14d",
        "resnetrs50",
        "resnetblur18",
        "resnetaa50",
        "resnetv2_18",
        "resnetv2_18d",
        "resnetv2_50x1_bit",
        "nf_resnet26",
        "legacy_seresnet18",
        "gcresnet33ts",
        "cspresnet50",
        "densenet121",
        "dpn68",
    ],
)
def test_the_resnet_family_starts_at_full_resolution_with_a_3x3(name, size):
    conv, side = stem_of(name, size)
    assert conv.kernel_size == (3, 3) and conv.stride == (1, 1)
    assert side == size // (16 if name == "gcresnet33ts" else 8)  # its stem strides twice, and has no pool


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("efficientnet_b0", 16),
        ("tf_efficientnet_b0", 16),
        ("mobilenetv3_small_050", 16),
        ("regnetx_002", 16),
        ("mobileone_s0", 16),
        ("ghostnet_100", 16),
        ("hgnetv2_b0", 16),
        ("repvit_m1", 16),
        ("inception_next_atto", 8),
        ("convnext_atto", 8),
        ("poolformer_s12", 8),
    ],
)
def test_other_cnns_lose_the_first_stride_or_shrink_their_patch(name, stride):
    assert stem_of(name, 32)[1] == 32 // stride


@pytest.mark.parametrize(("size", "kernel"), [(32, 1), (64, 2), (96, 4)])
def test_a_patch_stem_of_a_pyramid_follows_the_image(size, kernel):
    conv, side = stem_of("convnext_atto", size)
    assert conv.kernel_size == conv.stride == (kernel, kernel)
    assert side == size // (kernel * 8)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "regnetx_002"])
@pytest.mark.parametrize(("size", "stem"), [(96, "auto"), (32, "timm")])
def test_large_images_and_the_timm_option_leave_the_stem_alone(name, size, stem):
    with torch.device("meta"):
        fitted = build(name, 10, size, stem=stem)
        own = timm.create_model(name, num_classes=10)
    assert fitted.build_args["stem"] == "timm"
    assert str(fitted.net) == str(own)


@pytest.mark.parametrize(
    ("name", "size", "patch"),
    [
        ("vit_small_patch16_224", 8, 1),
        ("vit_small_patch16_224", 16, 2),
        ("vit_small_patch16_224", 28, 4),
        ("vit_small_patch16_224", 32, 4),
        ("vit_small_patch16_224", 48, 6),
        ("vit_small_patch16_224", 64, 8),
        ("vit_small_patch16_224", 96, 12),
        ("vit_small_patch16_224", 128, 16),
        ("vit_small_patch16_224", 224, 16),
        ("vit_small_patch14_dinov2", 32, 4),
        ("vit_small_patch14_dinov2", 224, 14),
        ("vit_base_patch32_224", 224, 32),
        ("vit_base_patch32_224", 64, 8),
        ("resmlp_12_224", 32, 4),
        ("deit3_small_patch16_224", 64, 8),
    ],
)
def test_patches_leave_about_eight_to_a_side_of_a_small_image(name, size, patch):
    assert fit_stem(name, size).patch_size == patch


def test_timms_patch_that_does_not_divide_the_image_is_refused_rather_than_blind_at_the_edge():
    with pytest.raises(ValueError, match="patches of 16 px, which do not divide image_size 40"):
        fit_stem("vit_small_patch16_224", 40, stem="timm")
    assert fit_stem("vit_small_patch16_224", 48, stem="timm").patch_size == 16


@pytest.mark.parametrize("size", [31, 97])
def test_an_image_that_no_sensible_patch_divides_names_a_size_that_works(size):
    with pytest.raises(
        ValueError, match=rf"divides image_size {size} .*; choose image_size (32|96), or name"
    ) as caught:
        fit_stem("vit_small_patch16_224", size)
    assert fit_stem("vit_small_patch16_224", int(str(caught.value).split("choose image_size ")[1].split(",")[0]))


def test_divisors_are_all_and_ascending():
    assert divisors(28) == [1, 2, 4, 7, 14, 28] and divisors(1) == [1]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 28),
        ("vit_mini", 28),
        ("convnext_atto", 50),
        ("swin_tiny_patch4_window7_224", 32),
        ("pit_s_224", 32),
        ("resmlp_12_224", 32),
        ("xcit_nano_12_p16_224", 32),
    ],
)
def test_every_pixel_counts(name, size):
    torch.manual_seed(0)
    classifier = build(name, 4, size, 1).eval()
    for parameter in classifier.parameters():
        if not parameter.any():  # timm starts a mixer's head and a ResNet's residual branches at zero
            nn.init.normal_(parameter)
    inputs = torch.rand(1, 1, size, size, requires_grad=True)
    classifier(inputs).square().sum().backward()
    assert (inputs.grad != 0).float().mean() > 0.99


@pytest.mark.parametrize(
    ("name", "path"), [("resnet18", "conv1"), ("convnext_atto", "stem.0"), ("nf_resnet26", "stem.conv")]
)
def test_a_new_kernel_answers_noise_as_strongly_as_timms_own(name, path):
    torch.manual_seed(0)
    own = timm.create_model(name).get_submodule(path)
    fitted = build(name, 10, 32).net.get_submodule(path)
    noise = torch.randn(64, 3, 32, 32)
    with torch.no_grad():
        before, after = (conv(noise)[:, :, 2:-2, 2:-2].std() for conv in (own, fitted))
    assert float(after / before) == pytest.approx(1, abs=0.15)


def test_a_resampled_patch_sees_in_a_small_image_what_it_saw_in_it_enlarged():
    from cvx.models.stem import apply

    torch.manual_seed(0)
    net = timm.create_model("test_vit", img_size=128)
    smooth = interpolate(torch.randn(64, 3, 4, 4), size=16, mode="bicubic", antialias=True)  # as trained kernels are
    net.patch_embed.proj.weight.data = smooth
    images = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        expected = net.patch_embed(interpolate(images, scale_factor=4, mode="bicubic"))
        apply(net, "test_vit", fit_stem("test_vit", 32), 32, resample=True)
        got = net.patch_embed(images)
    assert got.shape == expected.shape
    assert float(torch.corrcoef(torch.stack([got.flatten(), expected.flatten()]))[0, 1]) > 0.9


@pytest.mark.parametrize("name", ["vit_small_patch16_224", "beit_base_patch16_224", "swin_s3_tiny_224", "levit_128s"])
@pytest.mark.parametrize("size", [32, 64])
def test_models_of_fixed_size_are_built_for_the_size_they_will_see(name, size):
    with torch.device("meta"):
        classifier = build(name, 10, size)
        assert classifier(torch.zeros(2, 3, size, size)).shape == (2, 10)


def test_patches_of_a_convolution_that_overlaps_are_no_option():
    with pytest.raises(ValueError, match="pit_s_224 does not cut images into patches"):
        fit_stem("pit_s_224", 32, patch_size=4)
