"""The vanilla gradient, against algebra, finite differences in float64, and captum."""

import pytest
import torch
from captum.attr import Saliency
from torch import nn

from cvx.attribution import SCORES, NotFiniteError, attribute, attribute_all, frozen, gradient, vanilla_gradient
from cvx.models import build

FAMILIES = [  # name, image size, options: small, so that each takes a moment
    ("resnet18", 32, {}),
    ("resnet50", 16, {}),
    ("vit_tiny", 16, {"patch_size": 4}),
    ("vit_small", 16, {"patch_size": 4}),
    ("vit_base", 16, {"patch_size": 8}),
    ("convnext_atto", 16, {}),
    ("efficientnet_b0", 16, {}),
    ("mobilenetv3_small_050", 16, {}),
    ("regnetx_002", 16, {}),
    ("densenet121", 8, {}),
    ("resmlp_12_224", 16, {"patch_size": 4}),
    ("deit3_small_patch16_224", 16, {"patch_size": 8}),
    ("cait_xxs24_224", 16, {"patch_size": 8}),
    ("swin_tiny_patch4_window7_224", 16, {"patch_size": 2}),
    ("resnetv2_50", 16, {}),
    ("seresnet18", 16, {}),
    ("levit_128s", 16, {}),
    ("convit_tiny", 16, {"patch_size": 4}),
    ("eca_nfnet_l0", 16, {}),
]


class Linear(nn.Module):
    """Logits whose gradient is known: the rows of the weight."""

    def __init__(self, num_classes=3, pixels=12):
        super().__init__()
        self.layer = nn.Linear(pixels, num_classes)

    def forward(self, inputs):
        return self.layer(inputs.flatten(1))


def images(num, channels=3, side=16, seed=0):
    return torch.rand(num, channels, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return build("test_resnet", 10, 16).eval()


def test_the_gradient_of_a_linear_model_is_its_weights():
    model, inputs, targets = Linear(), images(4, 3, 2), torch.tensor([2, 0, 1, 2])
    logits, attribution = vanilla_gradient(model, inputs, targets)
    torch.testing.assert_close(attribution, model.layer.weight[targets].view(4, 3, 2, 2).detach())
    torch.testing.assert_close(logits, model(inputs).detach())


def test_the_margin_is_the_logit_less_the_mean_of_all():
    model, inputs, targets = Linear(), images(2, 3, 2), torch.tensor([2, 0])
    weight = model.layer.weight.detach()
    _, attribution = vanilla_gradient(model, inputs, targets, score="margin")
    torch.testing.assert_close(attribution, (weight[targets] - weight.mean(0)).view(2, 3, 2, 2))


def test_the_log_probability_subtracts_the_expected_weights():
    model, inputs, targets = Linear(), images(2, 3, 2), torch.tensor([1, 1])
    weight, probs = model.layer.weight.detach(), model(inputs).softmax(1).detach()
    _, attribution = vanilla_gradient(model, inputs, targets, score="logprob")
    torch.testing.assert_close(attribution, (weight[targets] - probs @ weight).view(2, 3, 2, 2))


def test_a_shift_of_all_logits_changes_the_logit_map_and_neither_of_the_others():
    class Shifted(Linear):
        def forward(self, inputs):
            return super().forward(inputs) + 5 * inputs.sum((1, 2, 3))[:, None]

    plain, shifted, inputs, targets = Linear(), Shifted(), images(2, 3, 2), torch.tensor([0, 1])
    shifted.load_state_dict(plain.state_dict())
    maps = {
        score: [vanilla_gradient(model, inputs, targets, score)[1] for model in (plain, shifted)] for score in SCORES
    }
    torch.testing.assert_close(maps["logit"][1], maps["logit"][0] + 5)
    for score in ("margin", "logprob"):
        torch.testing.assert_close(*maps[score], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])  # smooth throughout, unlike ReLU
@pytest.mark.parametrize("score", SCORES)
def test_it_is_the_limit_of_finite_differences_in_float64(name, score):
    torch.manual_seed(1)
    model = build(name, 5, 8, 1).double().eval()
    inputs, targets, h = images(1, 1, 8).double() * 0.8 + 0.1, torch.tensor([3]), 1e-5
    _, attribution = vanilla_gradient(model, inputs, targets, score)
    steps = torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8) * h
    with torch.no_grad():
        ahead, behind = (gradient.scores(model(inputs + sign * steps), score)[:, 3] for sign in (1, -1))
    expected = ((ahead - behind) / (2 * h)).view(1, 1, 8, 8)
    torch.testing.assert_close(attribution.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side", "options"), FAMILIES, ids=[name for name, *_ in FAMILIES])
def test_it_equals_captum_on_every_family(name, side, options):
    torch.manual_seed(2)
    model = build(name, 10, side, **options).eval()
    if name == "resmlp_12_224":  # timm starts a mixer's last layer at zero: no gradient to compare
        nn.init.normal_(model.net.head.weight, std=0.1)
    inputs, targets = images(2, 3, side), torch.tensor([7, 0])
    logits, attribution = vanilla_gradient(model, inputs, targets)
    expected = Saliency(model).attribute(inputs.clone().requires_grad_(), target=targets, abs=False)
    largest = float(expected.abs().max())
    assert largest > 0
    torch.testing.assert_close(attribution, expected, rtol=0, atol=1e-5 * largest)
    torch.testing.assert_close(logits, model(inputs).detach())


@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny"])
def test_an_image_alone_has_the_map_it_has_in_a_batch(name):
    torch.manual_seed(3)
    model = build(name, 10, 16).train()  # in training mode, BatchNorm would mix the images
    inputs, targets = images(5), torch.tensor([0, 9, 3, 3, 1])
    together = vanilla_gradient(model, inputs, targets)
    for i in range(5):
        alone = vanilla_gradient(model, inputs[i : i + 1], targets[i : i + 1])
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], many[i], rtol=0, atol=1e-5 * float(many[i].abs().max()))


def test_equal_calls_give_equal_bits(resnet):
    first, second = (vanilla_gradient(resnet, images(3), torch.arange(3))[1] for _ in range(2))
    assert torch.equal(first, second)


def test_the_result_is_float32_contiguous_and_detached(resnet):
    model, inputs = resnet.to(memory_format=torch.channels_last), images(2).to(memory_format=torch.channels_last)
    for array in vanilla_gradient(model, inputs, torch.tensor([0, 1])):
        assert array.dtype == torch.float32 and array.is_contiguous() and not array.requires_grad
    assert not inputs.requires_grad


def test_float64_inputs_are_taken_at_the_precision_of_the_weights(resnet):
    expected = vanilla_gradient(resnet, images(1), torch.tensor([0]))[1]
    assert torch.equal(vanilla_gradient(resnet, images(1).double(), torch.tensor([0]))[1], expected)


@pytest.mark.parametrize("targets", [[0, 10], [-1, 0]])
def test_a_target_that_is_no_class_is_refused(resnet, targets):
    with pytest.raises(ValueError, match=rf"targets must lie in 0…9 .*10 classes, got ({targets[0]}|{targets[1]})$"):
        vanilla_gradient(resnet, images(2), torch.tensor(targets))


@pytest.mark.parametrize(
    ("inputs", "targets", "score", "message"),
    [
        (
            torch.rand(1, 3, 8, 8) * 255,
            torch.zeros(1).long(),
            "logit",
            r"inputs must lie in \[0, 1\], got .*divide by 255",
        ),
        (torch.full((1, 3, 8, 8), -1.0), torch.zeros(1).long(), "logit", "leave normalization to the model"),
        (torch.full((1, 3, 8, 8), torch.nan), torch.zeros(1).long(), "logit", "got nan"),
        (torch.zeros(1, 3, 8, 8).byte(), torch.zeros(1).long(), "logit", "got torch.uint8"),
        (torch.rand(3, 8, 8), torch.zeros(3).long(), "logit", "channels first"),
        (torch.rand(2, 3, 8, 8), torch.zeros(3).long(), "logit", "one int64 class for each of 2 images"),
        (torch.rand(2, 3, 8, 8), torch.zeros(2), "logit", "got torch.float32"),
        (torch.rand(2, 3, 8, 8), torch.zeros(2).long(), "prob", "unknown score 'prob'; known: logit, logprob, margin"),
    ],
)
def test_what_would_give_a_map_of_the_wrong_thing_is_refused(inputs, targets, score, message):
    with pytest.raises(ValueError, match=message):
        gradient.check(inputs, targets, score)


class Breaking(Linear):
    """A model whose gradient is NaN, though its logits are not, where the first pixel is black."""

    def forward(self, inputs):
        return super().forward(inputs) + inputs[:, :1, 0, 0].sqrt() * inputs[:, :1, 0, 0].sqrt()


@pytest.mark.parametrize("batch_size", [0, 1, 2, 10])
def test_a_gradient_that_is_not_finite_names_its_image(batch_size):
    inputs = images(5, 3, 2)
    inputs[3, 0, 0, 0] = 0
    with pytest.raises(NotFiniteError, match="^image 3: NaN or infinity in its attribution") as caught:
        attribute(Breaking(), inputs, torch.zeros(5).long(), batch_size=batch_size)
    assert caught.value.image == 3


def test_logits_that_are_not_finite_name_their_image():
    model = Linear()
    nn.init.constant_(model.layer.weight, torch.inf)
    with pytest.raises(NotFiniteError, match="^image 0: NaN or infinity in its logits"):
        vanilla_gradient(model, images(2, 3, 2), torch.tensor([0, 1]))


@pytest.mark.parametrize("batch_size", [0, 1, 3, 100])
def test_the_batch_size_does_not_change_the_result(resnet, batch_size):
    inputs, targets = images(7), torch.arange(7)
    expected = vanilla_gradient(resnet, inputs, targets, "margin")
    result = attribute(resnet, inputs, targets, "margin", batch_size=batch_size)
    for one, other in zip(result, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


def test_no_images_give_empty_arrays(resnet):
    logits, attribution = attribute(resnet, images(0), torch.zeros(0).long())
    assert logits.shape == (0, 10) and attribution.shape == (0, 3, 16, 16)


def test_a_batch_that_exceeds_the_memory_is_halved_until_it_fits():
    sizes = []

    class Small(Linear):
        def forward(self, inputs):
            if len(inputs) > 3:
                raise torch.OutOfMemoryError("out of memory")
            sizes.append(len(inputs))
            return super().forward(inputs)

    model, inputs, targets = Small(), images(10, 3, 2), torch.zeros(10).long()
    _, attribution = attribute(model, inputs, targets, batch_size=10)
    assert sizes == [3, 3, 3, 1]
    torch.testing.assert_close(attribution, model.layer.weight[targets].view(10, 3, 2, 2).detach())


def test_the_chosen_batch_holds_as_many_images_as_the_budget_has_room_for(monkeypatch):
    from cvx.attribution import batch_size

    sizes = []

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(12, 3)

        def forward(self, inputs):
            sizes.append(len(inputs))
            return self.layer(inputs.flatten(1).exp())  # keeps exp's 12 floats an image for the backward pass

    monkeypatch.setattr(batch_size, "free_bytes", lambda device: 2 * (4 * 12 * 4 + 7))
    attribute(Watching(), images(9, 3, 2), torch.zeros(9).long())
    assert sizes == [1, 4, 4, 1]


@pytest.mark.parametrize("explain", [attribute, attribute_all])
def test_an_image_whose_map_would_not_fit_is_refused_before_anything_is_computed(explain, monkeypatch):
    from cvx.attribution import batch_size

    devices = []
    model, inputs = build("resnet10t", 2, 1024, stem="timm").eval(), torch.zeros(1, 3, 1024, 1024)
    model.register_forward_pre_hook(lambda _, given: devices.append(given[0].device.type))
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: 10**8)
    with pytest.raises(ValueError, match=r"1024 × 1024 pixels needs 0\.\d GB of memory .* and 0\.1 GB are free"):
        explain(model, inputs)
    assert devices == ["meta"]


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny"])
def test_what_a_map_is_said_to_need_is_what_it_does_need(name, monkeypatch):
    from cvx.attribution import batch_size

    model, inputs, said = build(name, 2, 128).eval().requires_grad_(False), images(1, 3, 128), []
    leaf = inputs.clone().requires_grad_()
    with frozen(model, torch.device("cpu")):  # as maps are computed
        needed = batch_size._left(model.parameters(), lambda: model(leaf))
    monkeypatch.setattr(batch_size, "LARGE", 1)
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: said.append(device) or 0.95 * needed)
    with pytest.raises(ValueError, match="pixels needs"):
        batch_size.check_memory(model, inputs)
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: 1.05 * needed)
    batch_size.check_memory(model, inputs)
    assert needed > 2**20 and said


def test_a_model_that_looks_at_values_is_not_asked_what_it_needs(monkeypatch):
    from cvx.attribution import batch_size

    class Looking(Linear):
        def forward(self, inputs):
            return super().forward(inputs) * float(inputs.mean() > 0)

    monkeypatch.setattr(batch_size, "LARGE", 1)
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: 0)
    batch_size.check_memory(Looking(), images(1, 3, 2))


def test_an_unknown_method_or_a_negative_batch_is_refused(resnet):
    with pytest.raises(ValueError, match="'lime'; known: gradient, smoothgrad, integrated_gradients"):
        attribute(resnet, images(1), torch.tensor([0]), method="lime")
    with pytest.raises(ValueError, match="batch_size must be positive"):
        attribute(resnet, images(1), torch.tensor([0]), batch_size=-1)
