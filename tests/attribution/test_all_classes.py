"""All classes of one image at once, against one after the other."""

import numpy as np
import pytest
import torch
from small_store import make_store
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cvx.__main__ import main
from cvx.attribution import SCORES, NotFiniteError, attribute_all, vanilla_gradient
from cvx.cancellation import stopped_by
from cvx.models import build

IMAGE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "vit_mini", "convnext_atto"])
@pytest.mark.parametrize("batch_size", [0, 3])
def test_each_class_has_the_map_it_has_alone(name, batch_size):
    torch.manual_seed(0)
    model = build(name, 7, 16).eval()
    logits, attribution = attribute_all(model, IMAGE, batch_size=batch_size)
    alone, expected = vanilla_gradient(model, IMAGE.expand(7, -1, -1, -1), torch.arange(7))
    torch.testing.assert_close(attribution, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(logits, alone[:1])


@pytest.mark.parametrize("score", SCORES)
def test_every_score_may_be_explained(score):
    model = build("test_vit", 5, 16).eval()
    expected = vanilla_gradient(model, IMAGE.expand(5, -1, -1, -1), torch.arange(5), score)[1]
    torch.testing.assert_close(
        attribute_all(model, IMAGE, score)[1], expected, rtol=0, atol=1e-5 * float(expected.abs().max())
    )


def test_the_model_meets_the_image_a_few_times_however_many_classes_it_has():
    passes = []

    class Counting(nn.Linear):
        def forward(self, inputs):
            passes.append(len(inputs))
            return super().forward(inputs.flatten(1))

    model = Counting(3 * 16 * 16, 200)
    _, attribution = attribute_all(model, IMAGE)
    torch.testing.assert_close(attribution, model.weight.detach().view(200, 3, 16, 16))
    assert sum(passes) <= 3  # to look for BatchNorm, to measure the memory, and the one that counts


class Tight(TorchDispatchMode):
    """Memory with room for the products of so many classes at a time."""

    def __init__(self, most):
        super().__init__()
        self.most, self.sizes = most, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm):  # backwards; a linear layer begins by addmm
            num = found.numel() // IMAGE.numel()
            if num > self.most:
                raise torch.OutOfMemoryError("out of memory")
            self.sizes.append(num)
        return found


def test_classes_that_exceed_the_memory_are_halved_until_they_fit():
    model = nn.Sequential(nn.Flatten(), nn.Linear(IMAGE.numel(), 10))
    with Tight(3) as memory:
        _, attribution = attribute_all(model, IMAGE, batch_size=10)
    assert memory.sizes == [3, 3, 3, 1]
    torch.testing.assert_close(attribution, model[1].weight.detach().view(10, 3, 16, 16))


def test_a_class_that_exceeds_the_memory_alone_is_an_error():
    model = nn.Sequential(nn.Flatten(), nn.Linear(IMAGE.numel(), 10))
    with Tight(0), pytest.raises(torch.OutOfMemoryError):
        attribute_all(model, IMAGE, batch_size=10)


def test_the_flags_of_the_model_are_as_they_were():
    model = build("test_resnet", 4, 16).train()
    attribute_all(model, IMAGE)
    assert model.training and all(one.requires_grad and one.grad is None for one in model.parameters())


def test_two_images_or_logits_that_are_not_finite_are_refused():
    model = build("test_vit", 4, 16)
    with pytest.raises(ValueError, match="one image has its classes explained at a time, got 2"):
        attribute_all(model, IMAGE.expand(2, -1, -1, -1))
    nn.init.constant_(model.net.head.weight, torch.inf)
    with pytest.raises(NotFiniteError):
        attribute_all(model, IMAGE)


def test_the_command_draws_a_sheet_per_image_and_keeps_the_maps_of_every_class(tmp_path, capsys):
    store = make_store(tmp_path)
    flags = ["--targets=all", "--per_class=2", "--device=cpu", f"--artifacts={tmp_path}"]
    assert main(["attribute", "tiles-vit_tiny", *flags]) == 0
    folder = tmp_path / "attributions" / "tiles" / "tiles-vit_tiny@v0-all"
    assert str(folder) in capsys.readouterr().out
    assert sorted(one.name for one in folder.glob("*.png")) == ["0.png", "1.png"]
    found = np.load(folder / "maps.npz")
    classifier, card = store.resolve("tiles-vit_tiny").load()
    pixels = store.samples("tiles", card.samples).split.images[1:2]
    inputs = torch.tensor(pixels).permute(0, 3, 1, 2).float() / 255
    expected = vanilla_gradient(classifier, inputs.expand(4, -1, -1, -1), torch.arange(4))[1].numpy()
    assert found["attribution"].shape == (2, 4, 3, 16, 16)
    np.testing.assert_allclose(found["attribution"][1], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_what_only_one_class_at_a_time_can_have_is_refused(tmp_path, capsys):
    make_store(tmp_path)
    flags = ["--targets=all", "--method=smoothgrad", f"--artifacts={tmp_path}"]
    assert main(["attribute", "tiles-vit_tiny", *flags]) != 0
    assert "targets=all goes with split=samples" in capsys.readouterr().err


def test_who_stops_waiting_stops_the_classes_between_two_passes():
    passed = []

    def hung_up():
        passed.append(1)
        if len(passed) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError), stopped_by(hung_up):
        attribute_all(build("test_vit", 5, 16).eval(), IMAGE, batch_size=2)
    assert len(passed) == 2
