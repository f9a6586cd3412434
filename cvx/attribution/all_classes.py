"""The maps of every class of one image, from one forward pass."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cvx import cancellation
from cvx.attribution.batch_size import check_batch, check_memory, choose_batch_size
from cvx.attribution.gradient import check, finished, scores
from cvx.models.fold_batchnorm import sooner
from cvx.models.frozen import detached_input, frozen


def attribute_all(
    model: nn.Module, image: Float[Tensor, "n c h w"], score: str = "logit", batch_size: int = 0
) -> tuple[Float32[Tensor, "1 k"], Float32[Tensor, "k c h w"]]:
    """Differentiate the score of every class with respect to one image.

    One forward pass serves all classes, and backward passes go together, as many as fit into memory. Row j is what
    `vanilla_gradient` gives for target j, to rounding.

    Args:
        image: One image in [0, 1].
        score: One of SCORES.
        batch_size: Classes per backward pass; 0 measures what one needs. On CUDA a batch that is too large after all
            is halved and tried again.

    Returns:
        The image's logits, and one signed map for each class in units of the score per unit pixel.

    Raises:
        ValueError: If there is not exactly one image, its map would not fit into memory, the batch size is negative,
            or as `vanilla_gradient`.
        NotFiniteError: If the logits or a gradient are not finite; the message then names the class by its place.
    """
    check_batch(batch_size)
    check(image, None, score)
    if len(image) != 1:
        raise ValueError(f"one image has its classes explained at a time, got {len(image)}; call once for each")
    check_memory(model, image)

    def explained(model: nn.Module) -> tuple[Tensor, Tensor]:
        size = batch_size or choose_batch_size(model, image)
        with frozen(model, image.device), sdpa_kernel(SDPBackend.MATH):
            leaf = detached_input(model, image).requires_grad_()
            logits = model(leaf)
            attribution = _jacobian(scores(logits, score)[0], leaf, size)
        return finished(logits.expand(len(attribution), -1), attribution)

    # what is spared in a ViT has gradients that cannot be batched
    logits, attribution = sooner(explained, model, image, spared=False)
    return logits[:1], attribution


def _jacobian(values: Float[Tensor, "k"], leaf: Float[Tensor, "1 c h w"], size: int) -> Float[Tensor, "k c h w"]:
    """Differentiate each value, `size` of them per backward pass, or as many as fit."""
    picks = torch.eye(len(values), dtype=values.dtype, device=values.device)
    parts: list[Tensor] = []
    start = 0
    while start < len(picks):
        cancellation.check()
        some = picks[start : start + size]
        try:
            parts += torch.autograd.grad(values, leaf, some, retain_graph=True, is_grads_batched=True)
        except torch.OutOfMemoryError:
            if len(some) == 1:
                raise
            size = (len(some) + 1) // 2
        else:
            start += size
    return torch.cat(parts)[:, 0]
