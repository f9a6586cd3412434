"""What a model looks at: attributions of images, and the heatmaps drawn from them."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from cvx.attribution.folding import WORTHWHILE, folded
from cvx.attribution.gradient import SCORES, NotFiniteError, check, frozen, own_copy, vanilla_gradient
from cvx.attribution.heatmap import MODES, REDUCTIONS, Scaled, rescale, to_heatmap
from cvx.attribution.opinions import integrated_gradients, smoothgrad

__all__ = [
    "METHODS",
    "MODES",
    "REDUCTIONS",
    "SCORES",
    "NotFiniteError",
    "Scaled",
    "attribute",
    "integrated_gradients",
    "rescale",
    "smoothgrad",
    "to_heatmap",
    "vanilla_gradient",
]

METHODS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "gradient": vanilla_gradient,
    "smoothgrad": smoothgrad,
    "integrated_gradients": integrated_gradients,
}

_BUDGET = 2**29  # bytes of activations per batch where no device says what is free
_MOST = 256


def attribute(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, "n"] | None = None,
    score: str = "logit",
    method: str = "gradient",
    batch_size: int = 0,
) -> tuple[Float32[Tensor, "n k"], Float32[Tensor, "n c h w"]]:
    """Explain one score of each image by one of METHODS, in batches that fit into memory.

    Many images are explained of a `folded` copy of the model, which is faster and equal to rounding; few are not worth
    making it.

    Args:
        targets: The class that each image's score is taken of; None takes the predicted class.
        batch_size: Images per pass; 0 measures what one image needs. On CUDA a batch that is too large after all is
            halved and tried again. The result does not depend on it.

    Raises:
        ValueError: If the method is unknown, or as `vanilla_gradient`.
        NotFiniteError: If an image's logits or gradient are not finite; the message names the image.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if batch_size < 0:
        raise ValueError(f"batch_size must be positive, or 0 to choose it, got {batch_size}")
    check(inputs, targets, score)
    if len(inputs) >= WORTHWHILE:
        model = folded(model, inputs[:1])
    size, start = batch_size or _fitting_size(model, inputs), 0
    parts: list[tuple[Tensor, Tensor]] = []
    while start < len(inputs) or not parts:
        rows = slice(start, start + size)
        try:
            own = targets[rows] if targets is not None else _prediction(model, inputs[rows], method)
            parts.append(METHODS[method](model, inputs[rows], own, score))
            start += size
        except NotFiniteError as error:
            raise NotFiniteError(start + error.image, error.what) from None
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = (min(size, len(inputs)) + 1) // 2
    logits, attribution = zip(*parts, strict=True)
    return torch.cat(logits), torch.cat(attribution)


def _prediction(model: nn.Module, inputs: Float[Tensor, "n c h w"], method: str) -> Int64[Tensor, "n"] | None:
    """Predict for a method that does not find the predicted class by itself."""
    if method == "gradient":
        return None
    with frozen(model, inputs.device), torch.no_grad():
        return model(own_copy(model, inputs)).argmax(dim=1)


def _fitting_size(model: nn.Module, inputs: Float[Tensor, "n c h w"]) -> int:
    """Choose a batch size from the bytes that one image leaves in memory between forward and backward pass."""
    if len(inputs) <= 1:
        return 1
    sizes: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with frozen(model, inputs.device), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        logits = model(own_copy(model, inputs[:1]).requires_grad_())
    for parameter in model.parameters():
        sizes.pop(parameter.untyped_storage().data_ptr(), None)
    del logits
    budget = torch.cuda.mem_get_info(inputs.device)[0] // 2 if inputs.is_cuda else _BUDGET
    return max(1, min(_MOST, budget // max(1, sum(sizes.values()))))
