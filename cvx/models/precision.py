"""Compute in bfloat16 or float32, in the way that is fast on this processor, and right."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import BFloat16
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from cvx.models import Classifier

SMALL_AREA = 16
"""Positions of the feature maps that are convolved in bfloat16 by a matrix product; `make bench TOPIC=loop` says what
that saves."""
WIDE = 128
"""Channels from which on it pays."""


@contextlib.contextmanager
def arithmetic(device: str, precision: torch.dtype | None, *, compiled: bool = False) -> Iterator[None]:
    """Run forward passes in this arithmetic; None or float32 leaves it as it is.

    In bfloat16 on a CPU, torch's flash attention and oneDNN's convolution of small maps are slow, backwards above all;
    matrix products do their work. Of a convolution, outputs and the gradients of weights are rounded once, at the end
    of a float32 sum, as oneDNN's are; a bias is added after that. In the gradients of inputs each kernel position's
    share is rounded before the shares are added, so they differ from oneDNN's in the last bits of bfloat16.

    In every precision, BatchNorm and InstanceNorm on a CPU get gradients that are right: see `_Normalizations`.

    Args:
        compiled: Whether a compiler looks into the forward pass, which then keeps torch's own convolutions, and
            differentiates BatchNorm by itself.
    """
    with contextlib.ExitStack() as stack:
        if device == "cpu" and not compiled:
            stack.enter_context(_Normalizations())
        if device == "cpu" and precision == torch.bfloat16:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if not compiled:
                stack.enter_context(_SmallConvolutions())
        stack.enter_context(torch.autocast(device, precision, enabled=precision not in (None, torch.float32)))
        yield


class _Normalizations(TorchFunctionMode):
    """Let gradients of BatchNorm and InstanceNorm be right whatever the memory format.

    Where a map has one image, one row or one column, torch may take a channels_last tensor for a contiguous one, and
    multiply its values by the other tensor's, in the wrong order (2.10 to 2.14, on a CPU, backwards only).
    `tests/models/test_memory_layouts.py` scans for it. Only functions are replaced, so modules with a forward of their
    own keep it.
    """

    @no_type_check  # traced where a model is compiled, which a check of types could not be
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        normalize = _NORMALIZATIONS.get(func)
        if normalize is None or not torch.is_grad_enabled():
            return func(*args, **(kwargs or {}))
        return normalize(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Do what `F.batch_norm` does."""
    constants = (running_mean, running_var, weight, bias)
    if training or any(one is not None and one.requires_grad for one in constants):
        if 1 not in (len(input), *input.shape[2:]):  # no memory format can be taken for another
            return F.batch_norm(input, *constants, training, momentum, eps)
        return _by_rows(F.batch_norm, input, *constants, training, momentum, eps)
    return _AffineMap.apply(input, *constants, eps)


def _batch_norm_of_torch(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    return _batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _by_rows(func: Callable[..., Tensor], input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Normalize maps as rows of values, `[n, c, values]`, of which there is one memory format only."""
    if input.ndim < 4:
        return func(input, *args, **kwargs)
    return func(input.flatten(2), *args, **kwargs).unflatten(2, input.shape[2:])


_NORMALIZATIONS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.batch_norm: _batch_norm,
    torch.batch_norm: _batch_norm_of_torch,
    F.instance_norm: functools.partial(_by_rows, F.instance_norm),
    torch.instance_norm: functools.partial(_by_rows, torch.instance_norm),
}


class _AffineMap(torch.autograd.Function):
    """BatchNorm in eval mode, which multiplies and adds constants of each channel; they get no gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        input: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        return torch.batch_norm(input, weight, bias, mean, var, False, 0.0, eps, False)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, var, weight, _, eps = inputs
        scale = (var + eps).rsqrt_()
        ctx.save_for_backward(scale if weight is None else scale.mul_(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (scale,) = ctx.saved_tensors
        (grad,) = grads
        return (grad * scale.view(-1, *[1] * (grad.ndim - 2))).to(grad.dtype), None, None, None, None, None


class _SmallConvolutions(TorchFunctionMode):
    """Let convolutions to small maps of many channels be matrix products."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d and len(args) == 7 and not kwargs and _is_small(*args):
            inputs, weight, bias, stride, padding = args[:5]
            found = _Convolution.apply(inputs.bfloat16(), weight.bfloat16(), stride[0], padding[0])
            return found if bias is None else found + bias.to(found.dtype)[:, None, None]
        return func(*args, **(kwargs or {}))


def _is_small(
    inputs: Tensor, weight: Tensor, _bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> bool:
    kernel = weight.shape[2]
    if inputs.ndim != 4 or groups != 1 or min(weight.shape[:2]) < WIDE or kernel == 1 or isinstance(padding, str):
        return False
    if weight.shape[3] != kernel or tuple(dilation) != (1, 1) or stride[0] != stride[1] or padding[0] != padding[1]:
        return False
    rows, columns = ((side + 2 * padding[0] - kernel) // stride[0] + 1 for side in inputs.shape[2:])
    return 0 < rows * columns <= SMALL_AREA


class _Convolution(torch.autograd.Function):
    """A convolution and its gradients as products of weights, patches and the output's gradient."""

    @staticmethod
    def forward(
        ctx: Any, inputs: BFloat16[Tensor, "n i h w"], weight: BFloat16[Tensor, "o i k k"], stride: int, padding: int
    ) -> BFloat16[Tensor, "n o y x"]:
        patches, size = _patches(inputs, weight.shape[2], stride, padding)
        ctx.save_for_backward(weight, patches if ctx.needs_input_grad[1] else None)
        ctx.shape, ctx.stride, ctx.padding = inputs.shape, stride, padding
        found = patches @ _by_patch(weight).t()
        return found.view(len(inputs), *size, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: BFloat16[Tensor, "n o y x"]) -> tuple[Tensor | None, Tensor | None, None, None]:
        weight, patches = ctx.saved_tensors
        to_inputs, to_weight = None, None
        rows = grads[0].permute(0, 2, 3, 1).flatten(0, 2)
        if ctx.needs_input_grad[0]:
            to_inputs = _pixels(rows @ _by_patch(weight), ctx.shape, grads[0].shape[2:], ctx.stride, ctx.padding)
        if ctx.needs_input_grad[1]:
            out, channels, kernel, _ = weight.shape
            product = rows.t().contiguous() @ patches
            to_weight = product.view(out, kernel, kernel, channels).permute(0, 3, 1, 2)
        return to_inputs, to_weight, None, None


def _by_patch(weight: BFloat16[Tensor, "o i k k"]) -> BFloat16[Tensor, "o values"]:
    return weight.permute(0, 2, 3, 1).flatten(1)


def _patches(
    inputs: BFloat16[Tensor, "n i h w"], kernel: int, stride: int, padding: int
) -> tuple[BFloat16[Tensor, "positions values"], tuple[int, int]]:
    """Lay out what each output position sees as one row: by kernel row, kernel column, channel."""
    padded = F.pad(inputs.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding)).contiguous()
    windows = padded.unfold(1, kernel, stride).unfold(2, kernel, stride)  # n y x i k k
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(0, 2).flatten(1), (windows.shape[1], windows.shape[2])


def _pixels(
    patches: BFloat16[Tensor, "positions values"], shape: Sequence[int], size: Sequence[int], stride: int, padding: int
) -> BFloat16[Tensor, "n i h w"]:
    """Add up the patches where they were taken from: they are rounded already, their float32 sum once more."""
    num, channels, height, width = shape
    rows, columns = size
    kernel = round((patches.shape[1] / channels) ** 0.5)
    parts = patches.view(num, rows, columns, kernel, kernel, channels)
    found = patches.new_zeros(num, height + 2 * padding, width + 2 * padding, channels, dtype=torch.float32)
    for i, j in itertools.product(range(kernel), repeat=2):
        found[:, i : i + stride * rows : stride, j : j + stride * columns : stride] += parts[:, :, :, i, j]
    inside = found[:, padding : padding + height, padding : padding + width]
    return inside.permute(0, 3, 1, 2).to(patches.dtype, memory_format=torch.channels_last)


def pick_precision(name: str, classifier: Classifier, device: torch.device) -> torch.dtype:
    """Choose the arithmetic of training steps; auto is bfloat16 where the processor computes in it, and rightly.

    Raises:
        ValueError: If bf16 is asked for where it would give wrong gradients.
    """
    wrong = device.type == "cpu" and strides_past_the_map(classifier)
    if name == "bf16" and wrong:
        raise ValueError(
            "precision=bf16 gives wrong gradients on a CPU where a padded convolution sees a map narrower than its"
            " stride, as one does here; use precision=fp32, a larger image_size or stem=auto"
        )
    if name == "auto":
        return torch.bfloat16 if _has_bf16(device) and not wrong else torch.float32
    return torch.bfloat16 if name == "bf16" else torch.float32


@torch.no_grad()
def strides_past_the_map(classifier: Classifier) -> bool:
    """Tell whether some padded convolution meets a map that is narrower than its stride.

    Columns of its weights that see padding only get a gradient from oneDNN that nobody wrote (torch 2.14, bfloat16,
    dense, grouped and depthwise, any height): whatever lay in memory, up to 1e38, where 0 was right, until the sum of
    the weights is no number. `tests/training/test_precision.py` scans for it.
    """
    seen = []

    def note(conv: nn.Conv2d, args: tuple[Tensor, ...]) -> None:
        is_narrow = args[0].shape[-1] < conv.stride[1]
        seen.append(is_narrow and conv.padding not in ((0, 0), "valid"))

    hooks = [module.register_forward_pre_hook(note) for module in classifier.modules() if isinstance(module, nn.Conv2d)]
    training, size = classifier.training, classifier.build_args["image_size"]
    weight = next(classifier.parameters())
    try:
        classifier.eval()(torch.zeros(1, classifier.build_args["in_chans"], size, size, device=weight.device))
    finally:
        classifier.train(training)
        for hook in hooks:
            hook.remove()
    return any(seen)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return False
