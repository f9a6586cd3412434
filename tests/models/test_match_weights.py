"""Other people's names: prefixes come off until everything fits, and a misfit says what is there instead."""

import time

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from cvx import models
from cvx.models.foreign_weights import Foreign
from cvx.models.match_weights import load_foreign


def build(name="test_resnet", num_classes=3, image_size=32, in_chans=3, **options):
    return models.build(name, num_classes, image_size, in_chans, **{"stem": "timm", **options})


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    net = build().net
    for name, value in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(7)
    return net


class Holder(nn.Module):
    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


def loaded(state, **options):
    classifier = build(**options)
    load_foreign(classifier, Foreign(state))
    return classifier.net.state_dict()


def refusal(state, key="", **options):
    classifier = build(**options)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    with pytest.raises(ValueError, match="the weights do not fit the model") as caught:
        load_foreign(classifier, Foreign(state, key))
    after = classifier.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert str(caught.value).isprintable()
    return str(caught.value)


def assert_same(state, net):
    for name, value in net.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)


WRAPPED = {
    "bare": lambda net: net,
    "module.": nn.DataParallel,
    "_orig_mod.": torch.compile,
    "module._orig_mod.": lambda net: nn.DataParallel(torch.compile(net)),
    "_orig_mod.module.": lambda net: torch.compile(nn.DataParallel(net)),
    "module.module.": lambda net: nn.DataParallel(nn.DataParallel(net)),
    "an average": AveragedModel,
    "an average of what is compiled": lambda net: AveragedModel(nn.DataParallel(torch.compile(net))),
    **{f"{name}.": lambda net, name=name: Holder(**{name: net}) for name in ("model", "net", "backbone", "encoder")},
    "module.model.backbone.": lambda net: nn.DataParallel(Holder(model=Holder(backbone=net))),
    "_orig_mod.model._orig_mod.": lambda net: torch.compile(Holder(model=torch.compile(net))),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_the_prefixes_of_real_wrappers_come_off(theirs, wrap):
    assert_same(loaded(dict(wrap(theirs).state_dict())), theirs)


def test_names_that_checkpointing_fsdp_and_compiling_put_in_the_middle_come_off(theirs):
    net = build().net
    net.load_state_dict(theirs.state_dict())
    net.layer1 = checkpoint_wrapper(torch.compile(net.layer1))
    state = {name: value.detach() for name, value in (*net.named_parameters(), *net.named_buffers())}
    assert any("layer1._checkpoint_wrapped_module._orig_mod." in name for name in state)
    assert_same(loaded(state), theirs)
    fully = {
        f"_fsdp_wrapped_module.{name.replace('layer2.', 'layer2._fsdp_wrapped_module.')}": v
        for name, v in state.items()
    }
    assert_same(loaded(fully), theirs)


def test_a_prefix_stays_on_unless_everything_then_fits(theirs):
    state = {f"model.{name}": value for name, value in theirs.state_dict().items()}
    assert_same(loaded(state), theirs)
    said = refusal({**state, "criterion.weight": torch.ones(3)}, key="state_dict")
    assert "What lies under model fits alone: --weights_key=state_dict.model." in said
    compiled = {f"module.{name}": value for name, value in {**state, "criterion.weight": torch.ones(3)}.items()}
    assert "--weights_key=module.model." in refusal(compiled)
    del state["model.fc.bias"]
    assert "missing fc.bias." in refusal(state)


def test_a_state_dict_without_counts_of_batches_is_accepted_as_torch_does(theirs):
    state = {name: value for name, value in theirs.state_dict().items() if not name.endswith("num_batches_tracked")}
    judge = build().net
    judge.load_state_dict(state, strict=True)
    got = loaded(state)
    assert_same(got, judge)
    assert all(value == 0 for name, value in got.items() if name.endswith("num_batches_tracked"))


def test_a_count_in_a_list_is_accepted_as_torch_does(theirs):
    state = {name: value.reshape(1) if value.ndim == 0 else value for name, value in theirs.state_dict().items()}
    build().net.load_state_dict(state, strict=True)
    assert_same(loaded(state), theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_become_float32(theirs, dtype):
    state = {name: value.to(dtype) for name, value in theirs.state_dict().items()}
    got = loaded(state)
    for name, value in theirs.state_dict().items():
        assert got[name].dtype == value.dtype
        torch.testing.assert_close(got[name], value.to(dtype).to(value.dtype), rtol=0, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_in_the_models_own_precision_are_refused(theirs, value):
    state = {name: one.double() for name, one in theirs.state_dict().items()}
    state["fc.bias"][0] = value
    with pytest.raises(ValueError, match=r"not finite, first in fc\.bias"):
        loaded(state)


# what a misfit says


def test_a_misfit_names_what_is_missing_and_what_is_there_under_another_name(theirs):
    names = {"fc.weight": "head.classifier.weight", "fc.bias": "head.classifier.bias", "bn1.weight": "stem.bn1.gamma"}
    said = refusal({names.get(name, name): value for name, value in theirs.state_dict().items()})
    assert "missing bn1.weight, fc.weight, fc.bias;" in said
    assert "unexpected stem.bn1.gamma, head.classifier.weight, head.classifier.bias;" in said
    for name, other in names.items():
        assert f"{name} may be {other}" in said
    num = sum(not name.endswith("num_batches_tracked") for name in theirs.state_dict())
    assert f"{num - 3} of its {num} tensors are there" in said


def test_a_name_is_proposed_only_for_the_same_shape_and_only_once():
    net = build().net
    state = net.state_dict()
    state["classifier.weight"], state["classifier.bias"] = state.pop("fc.weight").T, state.pop("fc.bias")
    said = refusal(state)
    assert "fc.weight may be" not in said and "fc.bias may be classifier.bias" in said


def test_a_misfit_of_hundreds_of_names_is_short_and_soon_said(theirs):
    state = {f"blocks.{i}.{'x' * 100}.weight": torch.ones(64) for i in range(3000)}
    state |= {"y" * 100_000: torch.ones(64), "\x1b[31m": torch.ones(64)}
    began = time.monotonic()
    said = refusal(state)
    assert time.monotonic() - began < 5 and len(said) < 2000
    assert "and 2999 more" in said and said.count("may be") <= 3


def test_other_classes_are_told_apart_from_another_model():
    said = refusal(build(num_classes=1000).net.state_dict())
    assert "fc.weight has shape (1000, " in said
    assert "The weights tell 1000 classes apart, the dataset has 3: choose the dataset of these weights." in said


def test_a_backbone_without_a_classifier_is_told(theirs):
    state = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    assert "a backbone without its classifier" in refusal({f"encoder.{name}": value for name, value in state.items()})
    assert "a backbone without" not in refusal({name: value for name, value in state.items() if "layer4" not in name})


def test_other_channels_are_told(theirs):
    assert "take images of 3 channels, the dataset's have 1" in refusal(theirs.state_dict(), in_chans=1)


def test_timms_stem_and_a_fitted_one_are_told_apart():
    timms, fitted = ({"name": "resnet18", "stem": stem} for stem in ("timm", "auto"))
    said = refusal(build(**timms).net.state_dict(), **fitted)
    assert "conv1.weight has shape (64, 3, 7, 7), the model's is (64, 3, 3, 3)" in said
    assert "has 7 px, as in timm: try --stem=timm." in said
    said = refusal(build(**fitted).net.state_dict(), **timms)
    assert "has 3 px, as cvx fits it to images of at most 64 px: try such an --image_size, without --stem=timm" in said


@pytest.mark.parametrize(
    ("name", "given", "asked", "advice"),
    [
        ("test_vit", {"image_size": 64, "patch_size": 16}, {"image_size": 32, "patch_size": 8}, "--patch_size=16 --image_size=64"),
        ("test_vit", {"image_size": 64, "patch_size": 8}, {"image_size": 32, "patch_size": 8}, "--image_size=64"),
        ("test_vit", {"image_size": 32, "patch_size": 4}, {"image_size": 32, "patch_size": 8}, "--patch_size=4"),
        ("test_vit2", {"image_size": 64, "patch_size": 16}, {"image_size": 32, "patch_size": 16}, "--image_size=64"),
        ("test_vit4", {"image_size": 48, "patch_size": 8}, {"image_size": 32, "patch_size": 4}, "--patch_size=8 --image_size=48"),
        ("test_convnext", {"image_size": 64, "patch_size": 4}, {"image_size": 64, "patch_size": 2}, "--patch_size=4"),
    ],
)  # fmt: skip
def test_patches_and_image_size_are_read_off_the_weights(name, given, asked, advice):
    given, asked = ({"name": name, "stem": "auto", **sizes} for sizes in (given, asked))
    state = build(**given).net.state_dict()
    said = refusal(state, **asked)
    assert said.endswith(f"try {advice}."), said
    assert_same(loaded(state, **given), build_like(state, given))


def build_like(state, given):
    net = build(**given).net
    net.load_state_dict(state)
    return net


def test_weights_of_quite_another_model_are_told_so():
    said = refusal({"x": torch.zeros(1)})
    assert "0 of its" in said and "missing conv1.0.weight" in said and "unexpected x." in said
    assert said.endswith("Check the model's name, its classes, --image_size, --stem=timm and --patch_size")
