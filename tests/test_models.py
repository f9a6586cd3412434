"""Any timm model fits small images, rebuilds exactly, and says why where it cannot."""

import json

import pytest
import torch

from cvx.models import ALIASES, build, resolve


def logits_of(classifier, size, channels):
    with torch.no_grad():
        return classifier.eval()(torch.rand(2, channels, size, size))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 8),
        ("resnet18", 28),
        ("resnet10t", 32),
        ("resnetv2_50", 32),
        ("vit_tiny", 32),
        ("vit_mini", 8),
        ("convnext_atto", 32),
        ("mobilenetv3_small_050", 32),
        ("regnetx_002", 64),
        ("densenet121", 32),
        ("efficientnet_b0", 32),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_models_are_fitted_to_size_channels_and_classes(name, size, channels):
    classifier = build(name, 7, size, channels)
    logits = logits_of(classifier, size, channels)
    assert logits.shape == (2, 7) and torch.isfinite(logits).all()


def test_small_images_get_a_3x3_stem_with_stride_1_and_no_pool():
    net = build("resnet18", 10, 32).net
    assert net.conv1.kernel_size == (3, 3) and net.conv1.stride == (1, 1)
    assert net.layer1(net.maxpool(net.conv1(torch.rand(1, 3, 32, 32)))).shape[-1] == 32


def test_timms_stem_is_kept_on_request_and_for_large_images():
    for net in (build("resnet18", 10, 32, stem="timm").net, build("resnet18", 10, 224).net):
        assert net.conv1.kernel_size == (7, 7) and net.conv1.stride == (2, 2)


@pytest.mark.parametrize(("size", "patch"), [(16, 2), (28, 4), (32, 4), (64, 8), (224, 16)])
def test_patches_follow_the_image_size(size, patch):
    assert build("vit_mini", 10, size).net.patch_embed.patch_size == (patch, patch)


def test_a_named_patch_size_is_taken():
    assert build("vit_mini", 10, 32, patch_size=8).net.patch_embed.num_patches == 16


def test_normalization_is_inside():
    classifier = build("resnet10t", 3, 8, 1, mean=(0.25,), std=(0.5,), stem="timm").eval()
    inputs = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(classifier(inputs), classifier.net((inputs - 0.25) / 0.5))


@pytest.mark.parametrize(
    "options", [{}, {"stem": "timm"}, {"patch_size": 8, "drop_path": 0.1}], ids=["fitted", "timm", "patch"]
)
def test_the_build_arguments_are_plain_data_and_rebuild_exactly_this(options):
    name = "vit_tiny" if "patch_size" in options else "resnet18"
    first = build(name, 5, 32, 3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2), **options)
    second = build(**json.loads(json.dumps(first.build_args)))
    second.load_state_dict(first.state_dict())
    inputs = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(first.eval()(inputs), second.eval()(inputs), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnet81", 10, 32), "nearest: .*resnet18"),
        (("", 10, 32), "unknown model"),
        (("resnet18", 1, 32), "num_classes must be at least 2, got 1"),
        (("resnet18", 10, 0), "image_size must be positive"),
        (("resnet18", 10, 32, 4), "in_chans must be 1"),
    ],
)
def test_what_cannot_be_built_says_why(arguments, said):
    with pytest.raises(ValueError, match=said):
        build(*arguments)


def test_a_patch_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ValueError, match="does not divide image_size 32"):
        build("vit_tiny", 10, 32, patch_size=5)


def test_a_patch_size_for_a_network_without_patches_is_refused():
    with pytest.raises(ValueError, match="resnet18"):
        build("resnet18", 10, 32, patch_size=4)


def test_images_of_another_size_are_refused_with_what_was_got():
    classifier = build("resnet10t", 10, 32)
    with pytest.raises(ValueError, match=r"\[2, 3, 28, 28\]"):
        classifier(torch.rand(2, 3, 28, 28))


def test_pretrained_weights_without_a_network_are_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((OSError, ValueError), match="resnet18"):
        build("resnet18", 1000, 224, pretrained=True)


def test_aliases_are_names_timm_knows():
    assert [resolve(alias) for alias in ALIASES] == list(ALIASES.values())
