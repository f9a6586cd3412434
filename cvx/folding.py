"""A copy of a network that gives the same logits and gradients sooner, to rounding."""

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cvx.frozen import frozen, own_copy
from cvx.tokens import spare

WORTHWHILE = 32
"""Images from which on the copy saves more time than it takes."""
SMALL_MAP = 5
"""Side of the feature maps that oneDNN convolves in float32 sooner when they are not channels_last (torch 2.14, 512
channels, 4 x 4); at 8 x 8 and beyond channels_last is as fast or faster."""
CLOSE = 1e-4
"""Largest difference between the copy's logits and the model's, as a share of the largest; rounding gives 1e-6."""


def folded(
    model: nn.Module, one: Float[Tensor, "1 c h w"], precision: torch.dtype = torch.float32, *, spared: bool = True
) -> nn.Module:
    """Return a copy of a model in eval mode with BatchNorm folded into the convolutions before it.

    In eval mode BatchNorm multiplies and adds constants of each channel, which the convolution's weights and bias can
    hold (Jacob et al., 2017, section 3.2, arXiv:1712.05877). Only a convolution whose output goes nowhere but into
    one BatchNorm is changed, as the autograd graph of one image shows. On a CPU, convolutions also get the memory
    format that is fast at their size, and a ViT computes no more than its logits depend on. Everything else is shared
    with the model, whose weights must not change while the copy is in use; the model itself is not touched.

    Rounding differs, so where a ReLU's input is zero to rounding, the gradient may take its other side: as in float32
    at large, a few maps of a deep ReLU network then differ by a thousandth of their largest value or more.

    Args:
        one: An image in [0, 1], on the model's device.
        precision: What the copy will compute in.
        spared: Whether a ViT may be changed, so that its gradients must be taken one batch of scores at a time.

    Returns:
        The model itself if there is nothing to change, it cannot be copied, or the copy's logits differ by more than
        rounding.
    """
    on_cpu = one.device.type == "cpu"
    try:
        twin = _twin(model)
    except (RuntimeError, TypeError):  # a module that holds what Python or torch cannot copy
        return model
    with frozen(twin, one.device):
        with _watched(twin) as (convs, pairs):
            logits = twin(own_copy(twin, one).requires_grad_())
        sides = {conv: node_and_side[1] for conv, node_and_side in convs.items()}
        only = _read_once(logits)
        found = [(conv, norm) for conv, norm in pairs.items() if convs[conv][0] in only]
        del convs, only
        for conv, norm in found:
            _fold(twin, conv, norm)
        if on_cpu and found:
            _lay_out(twin, sides, SMALL_MAP if precision == torch.float32 else 0)
        changed = (on_cpu and spared and spare(twin)) or bool(found)
        if not changed:
            return model
        with torch.no_grad():
            difference = (twin(own_copy(twin, one)) - logits).abs().max()
    return twin if difference <= CLOSE * logits.abs().max() else model


def _twin(model: nn.Module) -> nn.Module:
    """Copy the modules and share their tensors; the copy's parameters take no gradients."""
    tensors = [*model.parameters(), *model.buffers()]
    shared: dict[int, Any] = {id(tensor): tensor.detach() for tensor in tensors}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    return copy.deepcopy(model, shared)


@contextmanager
def _watched(model: nn.Module) -> Iterator[tuple[dict[nn.Conv2d, tuple[Any, int]], dict[nn.Conv2d, nn.BatchNorm2d]]]:
    """Note each convolution's node in the autograd graph with its output's side, and the BatchNorm that reads it."""
    convs: dict[nn.Conv2d, tuple[Any, int]] = {}
    makers: dict[Any, nn.Conv2d] = {}
    pairs: dict[nn.Conv2d, nn.BatchNorm2d] = {}
    calls: Counter[nn.Module] = Counter()

    def after(conv: nn.Conv2d, _inputs: object, output: Tensor) -> None:
        calls[conv] += 1
        convs[conv], makers[output.grad_fn] = (output.grad_fn, max(output.shape[-2:])), conv

    def before(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        calls[norm] += 1
        if (conv := makers.get(inputs[0].grad_fn)) is not None and norm.running_var is not None:
            pairs[conv] = norm

    hooks: list[Any] = []
    for module in model.modules():
        if type(module) is nn.Conv2d:
            hooks.append(module.register_forward_hook(after))
        elif _drops_out(module) is not None:
            hooks.append(module.register_forward_pre_hook(before))
    try:
        yield convs, pairs
    finally:
        for hook in hooks:
            hook.remove()
    for conv, norm in list(pairs.items()):
        if max(calls[conv], calls[norm]) > 1:
            del pairs[conv]


def _drops_out(module: nn.Module) -> nn.Module | None:
    """Return what remains of a BatchNorm once it is folded; None for a module that is no known BatchNorm."""
    from timm.layers import BatchNormAct2d

    if type(module) is nn.BatchNorm2d:
        return nn.Identity()
    if type(module) is BatchNormAct2d:
        return nn.Sequential(module.drop, module.act)
    return None


def _read_once(logits: Tensor) -> set[Any]:
    """Return the nodes of a graph whose output is read by one other node."""
    readers: Counter[Any] = Counter()
    open_nodes: list[Any] = [logits.grad_fn]
    while open_nodes:
        for node, _ in open_nodes.pop().next_functions:
            if node is None:
                continue
            readers[node] += 1
            if readers[node] == 1:
                open_nodes.append(node)
    return {node for node, count in readers.items() if count == 1}


@torch.no_grad()
def _fold(model: nn.Module, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_var is not None and norm.running_mean is not None
    precision = conv.weight.dtype
    wide = (
        precision if conv.weight.device.type == "mps" else torch.float64
    )  # rounded once, at the end; mps has no doubles
    scale = (norm.running_var.to(wide) + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    bias = (0.0 if conv.bias is None else conv.bias.to(wide)) - norm.running_mean.to(wide)
    bias = bias * scale if norm.bias is None else bias * scale + norm.bias
    weight = (conv.weight * scale[:, None, None, None]).to(precision)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    conv.bias = nn.Parameter(bias.to(precision), requires_grad=False)
    rest = _drops_out(norm)
    assert rest is not None
    for parent in model.modules():
        for name, child in parent.named_children():
            if child is norm:
                parent.add_module(name, rest)


def _lay_out(model: nn.Module, sides: dict[nn.Conv2d, int], small_map: int) -> None:
    """Give each convolution the memory format that its output's side asks for; the input follows."""
    for conv, side in sides.items():
        small = side <= small_map and conv.kernel_size != (1, 1) and conv.groups == 1
        layout = torch.contiguous_format if small else torch.channels_last
        conv.weight = nn.Parameter(conv.weight.contiguous(memory_format=layout), requires_grad=False)
        if small:
            conv.register_forward_pre_hook(lambda _conv, inputs: (inputs[0].contiguous(), *inputs[1:]))
