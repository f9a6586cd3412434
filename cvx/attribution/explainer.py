"""Explain one score of each image by any method, in batches that fit into memory."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from cvx import cancellation
from cvx.attribution.batch_size import check_batch, check_memory, choose_batch_size
from cvx.attribution.captum_methods import integrated_gradients, smoothgrad
from cvx.attribution.gradient import NotFiniteError, check, vanilla_gradient
from cvx.models.fold_batchnorm import WORTHWHILE, sooner
from cvx.models.frozen import detached_input, frozen

METHODS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "gradient": vanilla_gradient,
    "smoothgrad": smoothgrad,
    "integrated_gradients": integrated_gradients,
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""What maps may be computed in. Only float32 is exact; bfloat16 is sooner, and `rounding_error` says how far off."""


def attribute(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, "n"] | None = None,
    score: str = "logit",
    method: str = "gradient",
    batch_size: int = 0,
    precision: str = "fp32",
) -> tuple[Float32[Tensor, "n k"], Float32[Tensor, "n c h w"]]:
    """Explain one score of each image by one of METHODS, in batches that fit into memory.

    Many images are explained of a `folded` copy of the model, which is faster and equal to rounding; few are not worth
    making it.

    Args:
        targets: The class that each image's score is taken of; None takes the predicted class.
        batch_size: Images per pass; 0 measures what one image needs. On CUDA a batch that is too large after all is
            halved and tried again. The result does not depend on it.
        precision: One of PRECISIONS.

    Raises:
        ValueError: If the method or the precision is unknown, an image's map would not fit into memory, or as
            `vanilla_gradient`.
        NotFiniteError: If an image's logits or gradient are not finite; the message names the image.
    """
    for what, known, asked in (("method", METHODS, method), ("precision", PRECISIONS, precision)):
        if asked not in known:
            raise ValueError(f"unknown {what} {asked!r}; known: {', '.join(known)}")
    check_batch(batch_size)
    check(inputs, targets, score)
    if len(inputs):
        check_memory(model, inputs[:1])
    numbers = PRECISIONS[precision]

    def explained(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
        def explain(rows: slice) -> tuple[Tensor, Tensor]:
            own = targets[rows] if targets is not None else _prediction(model, inputs[rows], method, numbers)
            return METHODS[method](model, inputs[rows], own, score, numbers)

        size = batch_size or (choose_batch_size(model, inputs[:1]) if len(inputs) > 1 else 1)
        return _in_batches(explain, len(inputs), size)

    many = len(inputs) >= WORTHWHILE
    parts = sooner(explained, model, inputs[:1], numbers) if many else explained(model)
    logits, attribution = zip(*parts, strict=True)
    return torch.cat(logits), torch.cat(attribution)


def _in_batches(explain: Callable[[slice], tuple[Tensor, Tensor]], num: int, size: int) -> list[tuple[Tensor, Tensor]]:
    """Explain `size` images at a time, or as many as fit; of no image, one empty batch."""
    parts: list[tuple[Tensor, Tensor]] = []
    start = 0
    while start < num or not parts:
        cancellation.check()
        try:
            parts.append(explain(slice(start, start + size)))
            start += size
        except NotFiniteError as error:
            raise NotFiniteError(start + error.image, error.what) from None
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size = (min(size, num) + 1) // 2
    return parts


def _prediction(
    model: nn.Module, inputs: Float[Tensor, "n c h w"], method: str, precision: torch.dtype
) -> Int64[Tensor, "n"] | None:
    """Predict for a method that does not find the predicted class by itself."""
    if method == "gradient":
        return None
    with frozen(model, inputs.device, precision), torch.no_grad():
        return model(detached_input(model, inputs)).argmax(dim=1)
