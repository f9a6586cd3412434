"""Dependence of maps on the model's weights and on the class: randomize one or change the other."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn

from cvx.attribution.gradient import vanilla_gradient

NUM_BINS = 100


def blocks(model: nn.Module) -> dict[str, list[str]]:
    """Group a model's parameters and buffers by block, from the output back to the input.

    A block is a child module, or one entry of a sequence of them; norms belong to the block before them, and tokens
    that a model owns directly to its first block.
    """
    groups: dict[str, list[str]] = {}
    for key in model.state_dict():
        groups.setdefault(_block(key.removeprefix("net.")), []).append(key)
    sizes = {key: tensor.ndim for key, tensor in model.state_dict().items()}
    merged: dict[str, list[str]] = {}
    waiting: list[str] = []
    for name, keys in groups.items():
        if name and max(sizes[key] for key in keys) > 1:
            merged[name], waiting = [*waiting, *keys], []
        elif merged:
            merged[next(reversed(merged))] += keys
        else:
            waiting += keys
    return dict(reversed(merged.items()))


def _block(key: str) -> str:
    parts = key.split(".")
    if len(parts) == 1:
        return ""
    return ".".join(parts[:2]) if parts[1].isdigit() and len(parts) > 2 else parts[0]


def cascade(
    model: nn.Module,
    untrained: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, "n"],
    score: str = "logit",
    explain: Callable[..., tuple[Tensor, Tensor]] = vanilla_gradient,
) -> Iterator[tuple[str, Float32[np.ndarray, "n c h w"]]]:
    """Give the maps after each block more, from the output back, has lost what it learned.

    Cascading model-parameter randomization (Adebayo et al., 2018, section 3, arXiv:1810.03292). A block that is
    randomized takes the weights and statistics of `untrained`, a model of the same architecture. The model itself is
    left alone.

    Args:
        explain: One of `cvx.attribution.METHODS`.

    Raises:
        ValueError: If the two are no models of one architecture.
    """
    fresh, worn = untrained.state_dict(), copy.deepcopy(model)
    state = worn.state_dict()
    if {key: value.shape for key, value in state.items()} != {key: value.shape for key, value in fresh.items()}:
        raise ValueError("the untrained model must be of the same architecture as the model it replaces")
    for name, keys in blocks(model).items():
        with torch.no_grad():
            for key in keys:
                state[key].copy_(fresh[key])
        yield name, explain(worn, inputs, targets, score)[1].cpu().numpy()


def histogram_entropy(maps: Float[np.ndarray, "n h w"]) -> Float64[np.ndarray, "n"]:
    """Return the entropy in bits of each map's values in 100 equal bins: the complexity that eMPRT looks at."""
    flat = np.asarray(maps, dtype=np.float64).reshape(len(maps), -1)
    low, high = flat.min(axis=1, keepdims=True), flat.max(axis=1, keepdims=True)
    places = np.divide(flat - low, high - low, out=np.zeros_like(flat), where=high > low)
    bins = np.minimum((places * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    counts = np.zeros((len(flat), NUM_BINS))
    np.add.at(counts, (np.arange(len(flat))[:, None], bins), 1)
    shares = counts / flat.shape[1]
    return np.abs((shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=1))


def entropy_rise(before: Float[np.ndarray, "n h w"], after: Float[np.ndarray, "n h w"]) -> Float64[np.ndarray, "n"]:
    """Return by how much of itself the maps' entropy rises when all weights are randomized.

    The efficient variant of the test (eMPRT, Hedström et al., 2024, section 4, arXiv:2401.06465): one randomized
    model and no similarity measure; above 0 the maps were simpler for what was learned. nan where the trained
    model's map is the same everywhere.
    """
    first, last = histogram_entropy(before), histogram_entropy(after)
    return np.divide(last - first, first, out=np.full_like(first, np.nan), where=first > 0)


def runners_up(logits: Float[Tensor, "n k"], targets: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
    """Return the most probable class of each image beside its target."""
    return logits.scatter(1, targets[:, None], -torch.inf).argmax(dim=1)
