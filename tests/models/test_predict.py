import numpy as np
import pytest
import torch
import torch.distributed as dist
from small_images import make_split
from torch import nn

from cvx.models import predict
from cvx.models.predict import logits_of

SIZES = (1, 2, 7, 20)


class Shared(list):
    """A list that every copy of a model writes to."""

    def __deepcopy__(self, _memo):
        return self


class Convolutions(nn.Module):
    """A small network whose answer shows what eval mode, a changed image or a changed buffer would do."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 4)
        self.seen = Shared()

    def forward(self, inputs):
        self.seen.append(len(inputs))
        return self.head(self.body(inputs).mean(dim=(2, 3)))


def make_classifier():
    torch.manual_seed(0)
    classifier = Convolutions()
    with torch.no_grad():
        classifier.body[1].running_mean.uniform_(-1, 1)
    return classifier


def one_by_one(classifier, split):
    classifier.eval()
    with torch.no_grad():
        inputs = torch.tensor(split.images).permute(0, 3, 1, 2).float() / 255
        return np.concatenate([classifier(image[None]).numpy() for image in inputs])


def _on_rank(rank, folder, world):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    classifier = make_classifier()
    with torch.no_grad():
        classifier.body[1].running_mean += rank
    for num in SIZES:
        logits = logits_of(classifier, make_split(num), batch_size=3, rank=rank, world=world)
        np.save(f"{folder}/{num}-{rank}.npy", logits)
        np.save(f"{folder}/{num}-{rank}-seen.npy", classifier.seen[1:])
        classifier.seen.clear()
    dist.destroy_process_group()


@pytest.mark.parametrize("num", SIZES)
def test_logits_are_those_of_each_image_alone_in_order(num):
    split = make_split(num)
    found = logits_of(make_classifier(), split, batch_size=3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, one_by_one(make_classifier(), split), atol=1e-6)


@pytest.mark.slow
def test_two_ranks_see_each_image_once_and_agree_to_the_bit_with_one(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    torch.multiprocessing.spawn(_on_rank, (str(tmp_path), 2), nprocs=2)
    torch.set_num_threads(1)
    try:
        for num in SIZES:
            alone = logits_of(make_classifier(), make_split(num), batch_size=3)
            for rank in range(2):
                np.testing.assert_array_equal(np.load(tmp_path / f"{num}-{rank}.npy"), alone)
            seen = [np.load(tmp_path / f"{num}-{rank}-seen.npy").sum() for rank in range(2)]
            assert sum(seen) == num
    finally:
        torch.set_num_threads(threads)


def test_every_module_gets_its_own_mode_back():
    classifier = make_classifier().train()
    classifier.body[1].eval()
    modes = [module.training for module in classifier.modules()]
    logits_of(classifier, make_split(5))
    assert [module.training for module in classifier.modules()] == modes


def test_modes_come_back_after_an_error_too():
    classifier = make_classifier().train()
    classifier.head = nn.Linear(9, 4)
    with pytest.raises(RuntimeError):
        logits_of(classifier, make_split(5))
    assert classifier.training
    assert classifier.body[3].training


def test_nothing_of_the_model_changes():
    classifier = make_classifier().train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    logits_of(classifier, make_split(5))
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())
    assert all(not module._forward_hooks for module in classifier.modules())


def test_a_tensor_kept_from_evaluation_serves_training_afterwards():
    class Keeping(Convolutions):
        table = None

        def forward(self, inputs):
            if self.table is None:
                self.table = inputs.new_ones(1, 3, 1, 1)
            return super().forward(inputs * (self.table * self.scale))

    classifier = Keeping()
    classifier.scale = nn.Parameter(torch.ones(1))
    logits_of(classifier, make_split(5))
    classifier(torch.rand(2, 3, 9, 9)).sum().backward()
    assert classifier.scale.grad is not None


def test_bfloat16_is_used_if_asked_and_float32_comes_back():
    split = make_split(20)
    exact = logits_of(make_classifier(), split)
    rough = logits_of(make_classifier(), split, autocast_dtype=torch.bfloat16)
    assert rough.dtype == np.float32
    assert not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.05)


def test_the_batch_grows_to_its_limit_for_a_small_model():
    classifier = make_classifier()
    logits_of(classifier, make_split(150))
    assert [num for num in classifier.seen if num > 1] == [64, 64, 22]
    assert sum(classifier.seen) - 150 == 3  # the memory of one image, then the folded copy and its check


def test_many_images_are_scored_by_a_model_without_batch_norm_and_score_the_same(monkeypatch):
    split, used = make_split(40), []
    sooner = predict.sooner
    monkeypatch.setattr(predict, "sooner", lambda score, *rest: sooner(lambda m: used.append(m) or score(m), *rest))
    expected = one_by_one(make_classifier(), split)
    np.testing.assert_allclose(logits_of(make_classifier(), split), expected, rtol=0, atol=2e-6)
    assert [type(one.body[1]) for one in used] == [nn.Identity]


def test_the_batch_keeps_the_largest_layer_within_the_memory_set(monkeypatch):
    layer = 4 * (3 * 9 * 9 + 8 * 7 * 7)
    monkeypatch.setattr(predict, "MEMORY", 11 * layer)
    classifier = make_classifier()
    logits_of(classifier, make_split(20))
    assert classifier.seen == [1, 8, 8, 4]
    monkeypatch.setattr(predict, "MEMORY", 1)
    classifier.seen.clear()
    logits_of(classifier, make_split(3))
    assert classifier.seen == [1, 1, 1, 1]


def test_a_split_without_images_is_refused():
    with pytest.raises(ValueError, match="without images"):
        logits_of(make_classifier(), make_split(3).head(0))
