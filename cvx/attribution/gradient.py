"""The vanilla gradient: how one score of each image changes with each of its pixels."""

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from cvx.attribution.options import SCORES
from cvx.models.frozen import detached_input, frozen


class NotFiniteError(ValueError):
    """An image whose logits or gradient overflow or are not a number."""

    def __init__(self, image: int, what: str) -> None:
        super().__init__(
            f"image {image}: NaN or infinity in its {what}, so there is no map to show; the weights may have diverged"
        )
        self.image, self.what = image, what


def vanilla_gradient(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, "n"] | None = None,
    score: str = "logit",
    precision: torch.dtype = torch.float32,
    slack: float = 0.0,
) -> tuple[Float32[Tensor, "n k"], Float32[Tensor, "n c h w"]]:
    """Differentiate one score of each image with respect to the image (Simonyan et al., 2013, arXiv:1312.6034).

    In eval mode the images of a batch do not influence each other, so the gradient of the summed scores, from one
    backward pass, holds every image's own. Arithmetic is in the precision of the weights, never less unless asked: the
    caller's autocast and TensorFloat-32 are off inside. The model is left as it was found, in training mode or not,
    with no `.grad`.

    Args:
        inputs: Images in [0, 1]; the model normalizes inside.
        targets: The class that each image's score is taken of; None takes the predicted class, with no forward pass
            of its own.
        score: One of SCORES.
        precision: bfloat16 rounds inside the model: see `rounding_error`.
        slack: How far inputs may lie outside [0, 1], as images with noise do.

    Returns:
        The logits, and the signed gradient in units of the score per unit pixel; both detached.

    Raises:
        ValueError: If an input or a target is out of range, or the score is unknown.
        NotFiniteError: If an image's logits or gradient are not finite; the message names the image.
    """
    check(inputs, targets, score, slack)
    with frozen(model, inputs.device, precision):
        leaf = detached_input(model, inputs).requires_grad_()
        logits = model(leaf)
        wide = logits if precision == torch.float32 else logits.float()
        picked = pick(scores(wide, score), logits.argmax(dim=1) if targets is None else targets)
        (attribution,) = torch.autograd.grad(picked.sum(), leaf)
    return finished(logits, attribution)


def scores(logits: Float[Tensor, "n k"], score: str) -> Float[Tensor, "n k"]:
    """Turn logits into the chosen score of every class."""
    if score == "logprob":
        return logits.log_softmax(dim=1)
    if score == "margin":
        return logits - logits.mean(dim=1, keepdim=True)
    return logits


def pick(values: Float[Tensor, "n k"], targets: Int64[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Take each image's target column.

    Raises:
        ValueError: If a target is no class of the model.
    """
    num_classes = values.shape[1]
    if wrong := targets[(targets < 0) | (targets >= num_classes)].tolist():
        raise ValueError(
            f"targets must lie in 0…{num_classes - 1} for this model's {num_classes} classes, got {wrong[0]}"
        )
    return values.gather(1, targets.to(values.device, copy=True)[:, None])[:, 0]


def check(inputs: Tensor, targets: Tensor | None, score: str, slack: float = 0.0) -> None:
    """Refuse what would give a map of the wrong thing.

    Raises:
        ValueError: If inputs are no float images in [0, 1], give or take the slack, targets no classes of as many
            images, or the score unknown.
    """
    if score not in SCORES:
        raise ValueError(f"unknown score {score!r}; known: {', '.join(SCORES)}")
    if inputs.ndim != 4 or not inputs.is_floating_point():
        raise ValueError(
            f"inputs must be floats [n, c, h, w] in [0, 1], got {inputs.dtype} {list(inputs.shape)};"
            " divide uint8 images by 255 and put the channels first"
        )
    if targets is not None and (targets.dtype != torch.int64 or targets.shape != inputs.shape[:1]):
        raise ValueError(
            f"targets must be one int64 class for each of {len(inputs)} images,"
            f" got {targets.dtype} {list(targets.shape)}"
        )
    low, high = (float(end) for end in inputs.aminmax()) if inputs.numel() else (0.0, 1.0)
    slack += 1e-3
    if not (low >= -slack and high <= 1 + slack):  # NaN fails too
        raise ValueError(
            f"inputs must lie in [0, 1], got {low:g}…{high:g}; divide by 255 if they are bytes, and leave normalization"
            " to the model"
        )


def finished(logits: Tensor, attribution: Tensor) -> tuple[Float32[Tensor, "n k"], Float32[Tensor, "n c h w"]]:
    """Detach logits and attribution, in float32 and contiguous.

    Raises:
        NotFiniteError: If either is not finite.
    """
    logits, attribution = (array.detach().float().contiguous() for array in (logits, attribution))
    for what, array in (("logits", logits), ("attribution", attribution)):
        bad = ~array.flatten(1).isfinite().all(dim=1)
        if bad.any():
            raise NotFiniteError(int(bad.nonzero()[0, 0]), what)
    return logits, attribution
