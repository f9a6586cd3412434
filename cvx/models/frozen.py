"""A model at rest: eval mode, nothing learning, arithmetic as float32 says, and all put back afterwards."""

import collections
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cvx.models.precision import arithmetic


class _InTurn:
    """A lock for one thread at a time, in the order of asking; a thread that has it may take it again.

    `threading.RLock` may go back at once to whoever gave it, so that one with many batches would keep it from all.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: collections.deque[int] = collections.deque()
        self._owner, self._depth = 0, 0

    def __enter__(self) -> None:
        own = threading.get_ident()
        with self._changed:
            if self._owner != own:
                self._waiting.append(own)
                try:
                    self._changed.wait_for(lambda: self._depth == 0 and self._waiting[0] == own)
                except BaseException:  # Ctrl-C may end the wait, perhaps after it was this one's turn: wake the next
                    self._changed.notify_all()
                    raise
                finally:
                    self._waiting.remove(own)
                self._owner = own
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._depth -= 1
            if self._depth == 0:
                self._owner = 0
                self._changed.notify_all()


_EXCLUSIVE = _InTurn()
"""A model's flags and torch's precision belong to the process, so one thread at a time may set them."""


def detached_input(model: nn.Module, inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Copy inputs, detached, in the precision of the model's weights."""
    weight = next(model.parameters(), inputs)
    return inputs.detach().to(weight.dtype, copy=True)


@contextlib.contextmanager
def frozen(model: nn.Module, device: torch.device, precision: torch.dtype = torch.float32) -> Iterator[None]:
    """Let input gradients be taken of a model at rest: eval mode, no gradients of weights, no arithmetic but as asked.

    Works inside `no_grad`, `inference_mode` and `autocast`. Afterwards every module's training flag and every
    parameter's `requires_grad` are as before.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_EXCLUSIVE)
        stack.enter_context(_full_precision(device))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(arithmetic(device.type, precision))
        stack.enter_context(eval_mode(model))
        stack.enter_context(_not_learning(model))
        yield


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode, and every module back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train()  # LeViT and its kin keep attention biases while in eval mode, and drop them only here
        model.eval()
        yield
    finally:
        model.train()
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def _not_learning(model: nn.Module) -> Iterator[None]:
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Compute as float32 says, and on CUDA in an order that is the same every time.

    cuDNN's convolutions default to TensorFloat-32, and `torch.set_float32_matmul_precision` lets products be rounded
    even on a CPU. The backward pass of fused attention adds in any order on CUDA; the plain one does not, and its
    larger attention matrix is no burden at the sizes that maps are drawn at.
    """
    backends: Any = torch.backends
    settings: list[tuple[Any, str, Any]] = [
        (place, "fp32_precision", "ieee")
        for place in (backends.mkldnn.conv, backends.mkldnn.matmul, backends.cudnn.conv, backends.cuda.matmul)
    ]
    if device.type == "cuda":
        settings += [(backends.cudnn, "deterministic", True), (backends.cudnn, "benchmark", False)]
    before = [(place, name, getattr(place, name)) for place, name, _ in settings]
    try:
        for place, name, value in settings:
            setattr(place, name, value)
        with sdpa_kernel(SDPBackend.MATH) if device.type == "cuda" else contextlib.nullcontext():
            yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)
