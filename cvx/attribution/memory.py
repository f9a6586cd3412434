"""How many images fit into one backward pass."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cvx.frozen import frozen, own_copy

MOST = {"cpu": 64}
"""Images per pass from which on more are no faster: on a CPU what a layer leaves should still be near the processor."""
MOST_ELSEWHERE = 256
SHARE = 0.5
"""Of the memory that is free; the gradients on their way back take about as much as they meet."""
FALLBACK = 2**29
"""Bytes, where the system does not say what is free."""


def fitting(model: nn.Module, one: Float[Tensor, "1 c h w"]) -> int:
    """Choose a batch size from the bytes that one image leaves in memory between forward and backward pass."""
    sizes: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with frozen(model, one.device), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        logits = model(own_copy(model, one).requires_grad_())
    for parameter in model.parameters():
        sizes.pop(parameter.untyped_storage().data_ptr(), None)
    del logits
    room = int(free_bytes(one.device) * SHARE)
    return max(1, min(MOST.get(one.device.type, MOST_ELSEWHERE), room // max(1, sum(sizes.values()))))


def free_bytes(device: torch.device) -> int:
    """Return what a device's memory has room for, within the limit set for this process's container."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
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
    except (OSError, ValueError):  # no such file, or "max": no limit
        return []
    return [max(1, limit - used)]
