"""A copy of a network that gives the same logits and gradients sooner, to rounding."""

import copy
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cvx import cancellation
from cvx.models.frozen import detached_input, frozen
from cvx.models.vit_speedups import optimize_vit

WORTHWHILE = 32
"""Images from which on the copy saves more time than it takes."""
SMALL_MAP = 5
"""Side of the feature maps that oneDNN convolves in float32 sooner when they are not channels_last (torch 2.14, 512
channels, 4 x 4); at 8 x 8 and beyond channels_last is as fast or faster."""
CLOSE = 1e-4
"""Largest difference between the copy's logits and the model's, as a share of the largest, and between a quarter of
the values of their gradients, as a share of each; rounding gives 1e-6."""
FLIPPED = 0.03
"""Largest difference between their gradients, as a share of the model's; a ReLU that rounding turns over gives 0.01."""

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


class FastCopy:
    """Compute with a copy of a model that is folded at most once, and where it cannot be trusted with the model itself.

    The copy is made by `fold_batchnorm` at the first computation. It is given up, for good and with a debug line, if
    it fails in use, or if the model is no longer the one it was made of: a weight or buffer was changed in place or
    replaced, the model got hooks or methods of its user, or images of another shape, type or device come. Not seen
    are writes past autograd, into `weight.data` or through a NumPy array that shares its memory.

    The copy holds the convolutions' weights once more, and shares the rest. One thread at a time may use it.
    """

    def __init__(
        self, model: nn.Module, precision: torch.dtype = torch.float32, *, spared: bool = True, worthwhile: bool = True
    ) -> None:
        """Make no copy yet, and never one unless it is worthwhile; the rest is as in `fold_batchnorm`."""
        self.model = model
        self._precision, self._spared = precision, spared
        self._copy: nn.Module | None = None if worthwhile else model
        self._made_of: tuple[object, ...] = ()

    def compute(self, compute: Callable[[nn.Module], Result], one: Float[Tensor, "1 c h w"]) -> Result:
        """Compute with the copy; where there is none, or it fails, with the model itself.

        What fails with the model too is raised by the model, and what ends the computation from outside ends it at
        once.

        Args:
            one: An image such as the computation is of.
        """
        copied = self._usable(one)
        if copied is not self.model:
            try:
                return compute(copied)
            except Exception as error:  # noqa: BLE001 - of whatever kind: the model itself is right
                cancellation.check()
                self._give_up("failed", repr(error))
        return compute(self.model)

    def _usable(self, one: Float[Tensor, "1 c h w"]) -> nn.Module:
        if self._copy is None:
            self._made_of = self._state(one)  # read first, so that a change while the copy is made is seen
            self._copy = fold_batchnorm(self.model, one, self._precision, spared=self._spared)
            return self._copy
        if self._copy is not self.model and (self._state(one) != self._made_of or _is_altered(self.model)):
            self._give_up("is out of date", "the model or its images have changed")
        return self._copy

    def _state(self, one: Float[Tensor, "1 c h w"]) -> tuple[object, ...]:
        """Return what changes with the model's weights, and with the kind of its images."""
        tensors = [*self.model.named_parameters(), *self.model.named_buffers()]
        weights = [
            (name, tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for name, tensor in tensors
        ]
        return (one.shape, one.dtype, one.device, *weights)

    def _give_up(self, what: str, why: str) -> None:
        self._copy = self.model
        _log.debug("the copy of %s %s, so the model itself is used: %s", type(self.model).__name__, what, why)

    def close(self) -> None:
        """Let go of the copy; from now on the model itself is used."""
        self._copy, self._made_of = self.model, ()


def sooner(
    compute: Callable[[nn.Module], Result],
    model: nn.Module,
    one: Float[Tensor, "1 c h w"],
    precision: torch.dtype = torch.float32,
    *,
    spared: bool = True,
) -> Result:
    """Compute once with a model's `FastCopy`."""
    return FastCopy(model, precision, spared=spared).compute(compute, one)


def fold_batchnorm(
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
        The model itself if there is nothing to change, its user has altered what a copy might leave out, it cannot
        be copied, or the copy's logits or gradient differ by more than rounding.
    """
    name = type(model).__name__
    if _is_altered(model):
        _log.debug("%s has hooks or methods of its user, so no copy of it is made", name)
        return model
    try:
        return _checked(model, one, precision, spared)
    except Exception as error:  # noqa: BLE001 - of whatever kind: the model itself is right
        _log.debug("%s cannot be copied, so the model itself is used: %r", name, error)
    return model


def _is_altered(model: nn.Module) -> bool:
    """Tell whether any module has hooks, or a method of its own in place of its class's; compiled ones have."""
    own = [vars(module) for module in model.modules()]
    hooks = [value for one in (vars(nn.modules.module), *own) for name, value in one.items() if name.endswith("_hooks")]
    methods = [name for module in model.modules() for name in vars(module) if callable(getattr(type(module), name, 0))]
    return any(hooks) or any(methods) or any(one.get("_compiled_call_impl") for one in own)


def _checked(model: nn.Module, one: Float[Tensor, "1 c h w"], precision: torch.dtype, spared: bool) -> nn.Module:
    """Fold a copy and hold it against the model; of an image whose gradient has turned over, another view tells."""
    on_cpu, twin = one.device.type == "cpu", _twin(model)
    own: dict[Any, Any] = dict(zip(model.modules(), twin.modules(), strict=True))
    with frozen(model, one.device):
        leaf = detached_input(model, one).requires_grad_()
        with _watched(model) as (convs, pairs):
            logits = model(leaf)
        only = _read_once(logits)
        found = [(conv, norm) for conv, norm in pairs.items() if convs[conv][0] in only]
        for conv, norm in found:
            _fold(twin, own[conv], own[norm])
        if on_cpu and found:
            sides = {own[conv]: side for conv, (_, side) in convs.items()}
            _lay_out(twin, sides, SMALL_MAP if precision == torch.float32 else 0)
        del convs, only
        if not (on_cpu and spared and optimize_vit(twin)) and not found:
            return model
        expected = _answer(logits, leaf)
    del logits
    if _agree(_answer_of(twin, one), expected):
        return twin
    if any(_agree(_answer_of(twin, view), _answer_of(model, view)) for view in (one.flip(3), one.flip(2))):
        return twin
    _log.debug("the copy of %s differs, so the model itself is used", type(model).__name__)
    return model


def _answer_of(model: nn.Module, one: Float[Tensor, "1 c h w"]) -> tuple[Tensor, Tensor]:
    with frozen(model, one.device):
        leaf = detached_input(model, one).requires_grad_()
        return _answer(model(leaf), leaf)


def _answer(logits: Float[Tensor, "1 k"], leaf: Float[Tensor, "1 c h w"]) -> tuple[Tensor, Tensor]:
    """Return the logits of an image, and the gradient of all of them together, each with a weight of its own."""
    weights = torch.arange(logits.shape[1], dtype=logits.dtype, device=logits.device).cos()  # of both signs
    return logits.detach(), torch.autograd.grad((logits * weights).sum(), leaf)[0]


def _agree(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> bool:
    """Tell whether two models' logits of an image and gradients are equal to rounding.

    A ReLU whose input is zero to rounding may turn over, which changes some of the gradient's values by far more than
    rounding, and the others hardly; what takes another gradient changes nearly all. So a quarter must agree, and the
    whole may differ by little.
    """
    (logits, gradient), (own_logits, own_gradient) = found, expected
    gap = (gradient - own_gradient).abs()
    size = torch.maximum(gradient.abs(), own_gradient.abs())
    shares = (gap / size)[size != 0]  # of what the model does not look at nothing can be learned
    if logits.shape != own_logits.shape or not len(shares):
        return False
    close = (logits - own_logits).abs().max() <= CLOSE * own_logits.abs().max()
    quarter = shares.kthvalue(-(-len(shares) // 4)).values
    return bool(close and quarter <= CLOSE and gap.norm() <= FLIPPED * own_gradient.norm())


def _twin(model: nn.Module) -> nn.Module:
    """Copy the modules and share their tensors; the copy's parameters take no gradients."""
    tensors = [*model.parameters(), *model.buffers()]
    shared: dict[int, Any] = {id(tensor): tensor.detach() for tensor in tensors}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    twin = copy.deepcopy(model, shared)
    if not set(twin.modules()).isdisjoint(model.modules()):
        raise TypeError("a module's copy is the module itself")
    return twin


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
