"""Save and load a training run's state: one file of tensors and numbers, never a pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cvx.files import FORMAT, check_format
from cvx.store.checkpoint import write_tensors

FILE = "state.safetensors"


def save_state(
    path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, numbers: dict[str, Any]
) -> None:
    """Write modules, optimizer, random generators and plain numbers, whole or not at all."""
    # Weights
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}

    # Optimizer
    moments, scalars = _flatten(optimizer)
    tensors |= moments

    # Random generators
    tensors["rng/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng/cuda"] = torch.cuda.get_rng_state()

    # Numbers, in the file's header
    content = {"format": FORMAT, "numbers": numbers, "optimizer": scalars}
    write_tensors(path, tensors, {"json": json.dumps(content)})


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118
            return tensors, check_format(json.loads(stored.metadata()["json"]), path)
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no readable state ({error}); start the run anew") from None


def load_state(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Bring modules, optimizer and random generators back to a saved state and return its numbers.

    Raises:
        ValueError: If the file is missing, damaged or of a newer format.
    """
    tensors, metadata = _read(path)
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict(
            {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        )
    _restore(optimizer, tensors, metadata["optimizer"])
    torch.set_rng_state(tensors["rng/cpu"])
    if torch.cuda.is_available() and "rng/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng/cuda"])
    return metadata["numbers"]


def _flatten(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for index, values in optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value
            elif value is not None:
                scalars[f"{index}/{name}"] = value
    return tensors, scalars


def _restore(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {}
    flat: dict[str, Any] = {
        key.removeprefix("optimizer/"): v for key, v in tensors.items() if key.startswith("optimizer/")
    }
    for key, value in {**flat, **scalars}.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                # a fused optimizer walks weight and moments through memory side by side; the file has no channels_last
                values[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
