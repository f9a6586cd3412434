"""What a map meets and leaves behind: contexts, flags, caches, precision, threads."""

import gc
import threading
import time
import weakref

import pytest
import torch
from torch import nn

from cvx.attribution import METHODS, vanilla_gradient
from cvx.models import build


def images(num, side=16, seed=0):
    return torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return build("test_resnet", 10, 16).eval()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(resnet, context):
    expected = vanilla_gradient(resnet, images(2), torch.tensor([4, 2]))[1]
    with context():
        attribution = vanilla_gradient(resnet, images(2), torch.tensor([4, 2]))[1]
    torch.testing.assert_close(attribution, expected)
    assert torch.is_grad_enabled()


def test_autocast_around_it_changes_nothing(resnet):
    expected = vanilla_gradient(resnet, images(2), torch.tensor([4, 2]))[1]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(vanilla_gradient(resnet, images(2), torch.tensor([4, 2]))[1], expected)


def test_reduced_precision_is_off_inside_and_as_it_was_afterwards():
    seen = []

    class Watching(nn.Linear):
        def forward(self, inputs):
            seen.append((torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision))
            return super().forward(inputs.flatten(1))

    before = torch.backends.cudnn.conv.fp32_precision
    torch.set_float32_matmul_precision("medium")
    try:
        vanilla_gradient(Watching(12, 3), images(1, 2), torch.tensor([0]))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == [("ieee", "ieee")]
    assert torch.backends.cudnn.conv.fp32_precision == before


@pytest.mark.parametrize("method", METHODS)
def test_every_flag_is_as_it_was_and_no_weight_has_a_gradient(method):
    model = build("test_resnet", 10, 16).train()
    model.net.layer1.eval()
    model.net.fc.weight.requires_grad_(False)
    before = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for targets in (torch.tensor([1]), torch.tensor([99])):  # the second fails
        try:
            METHODS[method](model, images(1), targets)
        except ValueError:
            assert targets[0] == 99
        assert [module.training for module in model.modules()] == before
        assert all(parameter.grad is None for parameter in model.parameters())
        assert not model.net.fc.weight.requires_grad and next(model.net.conv1.parameters()).requires_grad
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_model_that_caches_in_eval_mode_is_seen_with_its_newest_weights():
    torch.manual_seed(0)
    model, inputs, targets = build("levit_128s", 10, 16), images(2), torch.tensor([1, 2])
    model.eval()(inputs)  # fills LeViT's cache of attention biases
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("attention_biases"):
                parameter.normal_(std=2)
    changed = vanilla_gradient(model, inputs, targets)[0]
    fresh = build("levit_128s", 10, 16)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(changed, fresh.eval()(inputs).detach())


def test_it_goes_on_from_training_without_a_trace_in_the_next_step():
    def step(with_maps):
        torch.manual_seed(5)
        model = build("test_resnet", 10, 16).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(2):
            optimizer.zero_grad()
            model(images(4)).square().sum().backward()
            if with_maps:
                vanilla_gradient(model, images(4, seed=1), torch.arange(4))
            optimizer.step()
        return model.state_dict()

    plain, mapped = step(False), step(True)
    assert all(torch.equal(plain[name], mapped[name]) for name in plain)


@pytest.mark.slow
def test_fifty_calls_leave_no_tensor_behind(resnet):
    def count():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    vanilla_gradient(resnet, images(2), torch.tensor([0, 1]))
    before = count()
    for _ in range(50):
        vanilla_gradient(resnet, images(2), torch.tensor([0, 1]))
    assert count() == before


def test_threads_that_share_a_model_do_not_disturb_each_other(resnet):
    resnet.train()
    expected = vanilla_gradient(resnet, images(2), torch.tensor([0, 1]))[1]
    results = []

    def work():
        results.extend(vanilla_gradient(resnet, images(2), torch.tensor([0, 1]))[1] for _ in range(4))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 12 and all(torch.equal(result, expected) for result in results)
    assert all(module.training for module in resnet.modules())
    assert all(parameter.requires_grad for parameter in resnet.parameters())


def test_measuring_what_fits_leaves_nothing_in_memory(resnet):
    from cvx.attribution.batch_size import choose_batch_size

    left = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: left.append(weakref.ref(output)))
        for module in resnet.modules()
        if isinstance(module, nn.ReLU)  # whose node keeps its own output
    ]
    try:
        choose_batch_size(resnet, images(1))
    finally:
        for one in hooks:
            one.remove()
    gc.collect()
    assert left and all(one() is None for one in left)


def test_threads_have_a_model_in_the_order_in_which_they_asked():
    from cvx.models.frozen import _InTurn

    lock, order, inside = _InTurn(), [], threading.Event()

    def again_and_again():
        for _ in range(3):
            with lock, lock:  # may be taken again by whoever has it
                order.append("many")
                inside.set()
                while not lock._waiting and order.count("one") == 0:
                    time.sleep(0.001)

    def once():
        with lock:
            order.append("one")

    first, second = threading.Thread(target=again_and_again), threading.Thread(target=once)
    first.start()
    assert inside.wait(10)
    second.start()
    first.join(10), second.join(10)
    assert order == ["many", "one", "many", "many"]
