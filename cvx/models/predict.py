"""Run a classifier over a split: each image exactly once, on any number of ranks."""

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cvx import cancellation
from cvx.data.batches import to_inputs
from cvx.data.dataset_types import Split
from cvx.models.fold_batchnorm import WORTHWHILE, sooner
from cvx.models.frozen import eval_mode
from cvx.models.precision import arithmetic

MEMORY = 2**28
"""Bytes that the input and output of the largest layer may take together."""
MAX_BATCH_SIZE = 256
MAX_BATCH_SIZE_CPU = 64
"""What the layers of a ResNet-18 leave then is still near the processor when the next layer reads it."""


def logits_of(
    classifier: nn.Module,
    split: Split,
    *,
    batch_size: int = 0,
    device: torch.device | str | None = None,
    rank: int = 0,
    world: int = 1,
    autocast_dtype: torch.dtype | None = None,
) -> Float[np.ndarray, "n k"]:
    """Return the logits of every image in the split's order, on every rank.

    Batches are dealt to the ranks in turn, so an image has the same neighbors, and its logits the same
    rounding, on any number of ranks. Buffers are made those of rank 0 first: BatchNorm's statistics differ
    between ranks after a training step. Many images are scored in float32 by a `folded` copy of the model, made for
    this call: sooner, and equal to rounding.

    Args:
        classifier: Evaluated in eval mode; every module's own mode is restored.
        split: Must hold at least one image.
        batch_size: Images at once; 0 takes as many as keep the largest layer within `MEMORY`. That depends on
            the model and not on what is free, so that logits do not change by rounding from run to run.
        device: Where the classifier is; None asks its parameters.
        rank: This process among `world`, which all must call.
        world: Number of processes.
        autocast_dtype: Arithmetic of the forward pass; None is float32.
    """
    if len(split) == 0:
        raise ValueError("cannot evaluate a split without images")
    place = torch.device(device) if device is not None else next(classifier.parameters()).device
    if world > 1:
        for buffer in classifier.buffers():
            dist.broadcast(buffer.data, 0)
    # no_grad, not inference_mode: a tensor that a module keeps from this pass must serve training steps too
    with torch.no_grad(), eval_mode(classifier), arithmetic(place.type, autocast_dtype):
        one = _inputs(split.images[:1], place)
        num_bytes, num_classes = _probe(classifier, one)
        size = batch_size or _batch_size(num_bytes, place.type)

        def score(model: nn.Module) -> Float[Tensor, "n k"]:
            logits = torch.zeros(len(split), num_classes, device=place)
            for start in range(rank * size, len(split), world * size):
                cancellation.check()
                rows = slice(start, start + size)
                logits[rows] = model(_inputs(split.images[rows], place)).float()
            return logits

        many = len(split) >= WORTHWHILE and autocast_dtype is None
        logits = sooner(score, classifier, one) if many else score(classifier)
    if world > 1:
        dist.all_reduce(logits)  # every row is zero on all ranks but one, so the sum is exact
    return logits.cpu().numpy()


def _inputs(images: UInt8[np.ndarray, "b h w c"], device: torch.device) -> Float[Tensor, "b c h w"]:
    tensor = torch.tensor(np.ascontiguousarray(images))
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return to_inputs(tensor.to(device, non_blocking=device.type == "cuda"))


def _probe(classifier: nn.Module, one: Float[Tensor, "1 c h w"]) -> tuple[int, int]:
    """Run one image; return the bytes of the largest layer's input and output, and the number of classes."""
    seen = [0]

    def look(_module: nn.Module, inputs: object, output: object) -> None:
        seen.append(_num_bytes(inputs) + _num_bytes(output))

    handles = [module.register_forward_hook(look) for module in classifier.modules()]
    try:
        num_classes = classifier(one).shape[1]
    finally:
        for handle in handles:
            handle.remove()
    return max(seen), num_classes


def _num_bytes(values: object) -> int:
    if isinstance(values, Tensor):
        return values.nbytes
    return sum(map(_num_bytes, values)) if isinstance(values, tuple | list) else 0


def _batch_size(num_bytes: int, device_type: str) -> int:
    """Return the power of two, up to the most that the device works well with, whose images fit into `MEMORY`."""
    most = MAX_BATCH_SIZE_CPU if device_type == "cpu" else MAX_BATCH_SIZE
    fitting = min(MEMORY // max(num_bytes, 1), most)
    return 1 << max(fitting.bit_length() - 1, 0)
