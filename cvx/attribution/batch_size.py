"""Find how many images fit into memory in one backward pass."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cvx.models.frozen import detached_input, frozen

MOST = {"cpu": 32}
"""Images per pass from which on more are no faster: on a CPU what a layer leaves should still be near the processor."""
MOST_ELSEWHERE = 256
SHARE = 0.5
"""Of the memory that is free; the gradients on their way back take about as much as they meet."""
FALLBACK = 2**29
"""Bytes, where the system does not say what is free."""

LARGE = 1024**2
"""Pixels of an image from which on it is asked beforehand whether its map fits into memory."""


def check_batch(batch_size: int) -> None:
    """Refuse a negative batch size.

    Raises:
        ValueError: If it is one.
    """
    if batch_size < 0:
        raise ValueError(f"batch_size must be positive, or 0 to choose it, got {batch_size}")


def choose_batch_size(model: nn.Module, one: Float[Tensor, "1 c h w"]) -> int:
    """Choose a batch size from the bytes that one image leaves in memory between forward and backward pass."""
    return images_that_fit(bytes_per_image(model, one), one.device)


def bytes_per_image(model: nn.Module, one: Float[Tensor, "1 c h w"]) -> int:
    """Measure what one image leaves in memory between forward and backward pass."""
    with frozen(model, one.device):
        return _left(model.parameters(), lambda: model(detached_input(model, one).requires_grad_()))


def images_that_fit(num_bytes: int, device: torch.device) -> int:
    """Return how many images of so many bytes go into one pass, given the memory that is free now."""
    room = int(free_bytes(device) * SHARE)
    return max(1, min(MOST.get(device.type, MOST_ELSEWHERE), room // max(1, num_bytes)))


def check_memory(model: nn.Module, one: Float[Tensor, "1 c h w"]) -> None:
    """Refuse a large image whose map would not fit into memory, without computing anything of it.

    Raises:
        ValueError: If the model would leave more behind for its backward pass than there is memory.
    """
    height, width = one.shape[-2:]
    if height * width < LARGE:
        return
    with frozen(model, one.device), _FlashOnCpu() if one.device.type == "cpu" else contextlib.nullcontext():
        tensors = itertools.chain(model.named_parameters(), model.named_buffers())
        shapes = {name: tensor.detach().to("meta") for name, tensor in tensors}
        image = detached_input(model, one).to("meta").requires_grad_()
        try:
            needed = _left(shapes.values(), lambda: torch.func.functional_call(model, shapes, (image,)))
        except (RuntimeError, TypeError):  # a model that looks at values, which there are none of
            return
    if needed > (room := free_bytes(one.device)):
        raise ValueError(
            f"a gradient map of {width} × {height} pixels needs {needed / 1e9:.1f} GB of memory by this model,"
            f" and {room / 1e9:.1f} GB are free; take smaller images, or a device with more memory"
        )


class _FlashOnCpu(TorchFunctionMode):
    """Let attention keep no matrix of all tokens by all tokens, as on a CPU; without memory torch takes another way."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.scaled_dot_product_attention and len(args) == 3 and (kwargs or {}).get("attn_mask") is None:
            queries, keys, values = args
            return queries @ (keys.transpose(-2, -1) @ values)  # of the same shape, and keeps all three
        return func(*args, **(kwargs or {}))


def _left(weights: Iterable[Tensor], forward: Callable[[], Tensor]) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, the weights not counted."""
    sizes: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage._cdata] = storage.nbytes()  # shapes without memory have no address to tell them apart by
        return tensor.detach()  # what is its own node's output would hold itself in memory for ever

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        logits = forward()
    del logits
    for weight in weights:
        sizes.pop(weight.untyped_storage()._cdata, None)
    return sum(sizes.values())


def free_bytes(device: torch.device) -> int:
    """Return what a device's memory has room for, within the limit set for this process's container."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, to be used again
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    found = [_available(), *_within_limit()]
    return min(one for one in found if one is not None) if any(found) else FALLBACK


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _within_limit() -> list[int]:
    place = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((place / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        stat = dict(line.split() for line in (place / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # no such file, or "max": no limit
        return []
    cached = int(stat.get("inactive_file", 0))  # of files read, counted as used and given up when memory is needed
    return [max(1, limit - used + cached)]
