"""Any timm model fits small images, rebuilds exactly, and says why where it cannot."""

import copy
import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import DropPath

from cvx.models import build
from cvx.models.building import ALIASES, resolve


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


@pytest.fixture
def hub_cache(monkeypatch, tmp_path):
    """Give a local cache of the Hub, and a function that puts weights into it as a download would."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def put(repository, state):
        folder = tmp_path / f"models--{repository.replace('/', '--')}"
        (folder / "snapshots/abc").mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs/main").write_text("abc")
        save_file(state, folder / "snapshots/abc/model.safetensors")

    return put


@pytest.fixture
def vit_weights(hub_cache):
    torch.manual_seed(7)
    state = timm.create_model("test_vit").state_dict()
    hub_cache("timm/test_vit.r160_in1k", state)
    return state


def test_pretrained_weights_are_taken_from_the_local_cache_without_a_network(vit_weights):
    net = build("test_vit", 1000, 160, pretrained=True).net
    assert all(torch.equal(value, vit_weights[name]) for name, value in net.state_dict().items())


def test_pretrained_weights_are_fitted_to_size_patch_and_classes(vit_weights):
    classifier = build("test_vit", 7, 32, pretrained=True)
    fitted = {name for name, value in classifier.net.state_dict().items() if not torch.equal(value, vit_weights[name])}
    assert fitted == {"pos_embed", "patch_embed.proj.weight", "head.weight", "head.bias"}
    assert classifier.net.patch_embed.patch_size == (4, 4)
    rebuilt = build(**classifier.build_args)
    rebuilt.load_state_dict(classifier.state_dict())
    inputs = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(inputs), classifier.eval()(inputs))


@pytest.mark.parametrize(("channels", "given", "expected"), [(3, None, 0.5), (1, None, 0.5), (1, (0.3,), 0.3)])
def test_pretrained_weights_bring_their_normalization_unless_one_is_given(vit_weights, channels, given, expected):
    classifier = build("test_vit", 7, 32, channels, mean=given, pretrained=True)
    assert classifier.build_args["mean"] == [expected] * channels
    assert classifier.build_args["std"] == [0.5] * channels


def test_a_pretrained_resnet_keeps_all_but_the_stem_and_the_head(hub_cache):
    state = timm.create_model("resnet18").state_dict()
    hub_cache("timm/resnet18.a1_in1k", state)
    net = build("resnet18", 10, 32, pretrained=True).net
    fitted = {name for name, value in net.state_dict().items() if not torch.equal(value, state[name])}
    assert fitted == {"conv1.weight", "fc.weight", "fc.bias"}
    kept = build("resnet18", 1000, 32, stem="timm", pretrained=True).net.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in state.items())


def test_without_a_network_pretrained_weights_are_one_error_that_names_every_way(hub_cache, tmp_path):
    with pytest.raises(ConnectionError) as caught:
        build("resnet18", 10, 32, pretrained=True)
    for way in ("connect to the network", f"models--timm--resnet18.a1_in1k into {tmp_path}", "from scratch"):
        assert way in str(caught.value)


def test_a_model_without_published_weights_says_so():
    with pytest.raises(ValueError, match="timm has no pretrained weights of coatnet_0_224"):
        build("coatnet_0_224", 10, 224, pretrained=True)


def test_an_unknown_tag_of_weights_lists_the_known_ones():
    with pytest.raises(ValueError, match="no weights 'a9_in1k' for resnet18; known: .*resnet18.a1_in1k"):
        build("resnet18.a9_in1k", 10, 32)
    assert build("resnet18.a1_in1k", 10, 32).build_args["name"] == "resnet18.a1_in1k"


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("resnet_18", "resnet18"),
        ("ResNet-50", "resnet50"),
        ("vit-tinny", "vit_tiny"),
        ("deit_tiny", "deit_tiny_patch16_224"),
    ],
)
def test_a_misspelt_name_gets_the_one_that_was_meant(asked, meant):
    with pytest.raises(ValueError, match=rf"unknown model '{asked}'; nearest: .*\b{meant}\b"):
        resolve(asked)


def test_stochastic_depth_rises_to_the_rate_asked_for():
    rates = [
        module.drop_prob
        for module in build("vit_mini", 10, 32, drop_path=0.2).modules()
        if isinstance(module, DropPath)
    ]
    assert rates == sorted(rates) and rates[-1] == pytest.approx(0.2)


def test_no_model_drops_paths_unless_asked():
    for name in ("swin_tiny_patch4_window7_224", "fasternet_t1"):  # timm's own rates are 0.1 and 0.02
        modules = build(name, 10, 32).modules()
        assert not any(module.drop_prob for module in modules if isinstance(module, DropPath))


def test_stochastic_depth_of_a_model_without_it_is_refused():
    with pytest.raises(ValueError, match="densenet121 has no stochastic depth .* must be 0, got 0.1"):
        build("densenet121", 10, 32, drop_path=0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mean": (0.5,)}, "mean must have 3 finite values"),
        ({"mean": (0.5, 0.5, float("nan"))}, "mean must have 3 finite values"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be positive"),
        ({"stem": "small"}, "unknown stem 'small'; known: auto, timm"),
        ({"drop_path": 1.0}, r"drop_path must lie in \[0, 1\)"),
        ({"patch_size": -1}, "patch_size -1"),
    ],
)
def test_arguments_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        build("resnet18", 10, 32, **options)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        (
            "inception_v3",
            32,
            "inception_v3 cannot be fitted to images of 32 px; timm says: .*(Kernel size|Output size)",
        ),
        ("efficientformer_l1", 64, "cannot be fitted to images of 64 px"),
        ("mobilenetv5_300m_enc", 64, r"no classifier: for one image it gives \(1, 2048, 16, 16\)"),
    ],
)
def test_a_model_that_cannot_be_fitted_says_why(name, size, said):
    with pytest.raises(ValueError, match=said), torch.device("meta"):  # no memory is needed to find out
        build(name, 10, size)


def test_a_model_built_in_inference_mode_can_be_trained():
    with torch.inference_mode():
        classifier = build("test_resnet", 3, 8)
    classifier(torch.rand(2, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


def test_memory_format_and_copies_do_not_change_the_logits():
    classifier, inputs = build("test_resnet", 3, 16).eval(), torch.rand(2, 3, 16, 16)
    other = copy.deepcopy(classifier).to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(other(inputs.to(memory_format=torch.channels_last)), classifier(inputs))


def test_the_state_holds_the_network_alone():
    classifier = build("test_resnet", 3, 16)
    assert set(classifier.state_dict()) == {f"net.{name}" for name in classifier.net.state_dict()}


def test_aliases_are_names_timm_knows():
    assert [resolve(alias) for alias in ALIASES] == list(ALIASES.values())
