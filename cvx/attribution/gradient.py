"""The vanilla gradient: how one score of each image changes with each of its pixels."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

SCORES = ("logit", "logprob", "margin")
"""What may be explained of a class: its logit, its log-probability, or its logit less the mean over the classes."""

_EXCLUSIVE = threading.RLock()
"""A model's flags and torch's precision belong to the process, so one thread at a time may set them."""


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
) -> tuple[Float32[Tensor, "n k"], Float32[Tensor, "n c h w"]]:
    """Differentiate one score of each image with respect to the image (Simonyan et al., 2013, arXiv:1312.6034).

    In eval mode the images of a batch do not influence each other, so the gradient of the summed scores, from one
    backward pass, holds every image's own. Arithmetic is in the precision of the weights, never less: autocast and
    TensorFloat-32 are off inside. The model is left as it was found, in training mode or not, with no `.grad`.

    Args:
        inputs: Images in [0, 1]; the model normalizes inside.
        targets: The class that each image's score is taken of; None takes the predicted class, with no forward pass
            of its own.
        score: One of SCORES.

    Returns:
        The logits, and the signed gradient in units of the score per unit pixel; both detached.

    Raises:
        ValueError: If an input or a target is out of range, or the score is unknown.
        NotFiniteError: If an image's logits or gradient are not finite; the message names the image.
    """
    check(inputs, targets, score)
    with frozen(model, inputs.device):
        leaf = own_copy(model, inputs).requires_grad_()
        logits = model(leaf)
        picked = pick(scores(logits, score), logits.argmax(dim=1) if targets is None else targets)
        (attribution,) = torch.autograd.grad(picked.sum(), leaf)
    return finished(logits, attribution)


def own_copy(model: nn.Module, inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Copy inputs, detached, in the precision of the model's weights."""
    weight = next(model.parameters(), inputs)
    return inputs.detach().to(weight.dtype, copy=True)


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


def check(inputs: Tensor, targets: Tensor | None, score: str) -> None:
    """Refuse what would give a map of the wrong thing.

    Raises:
        ValueError: If inputs are no float images in [0, 1], targets no classes of as many images, or the score unknown.
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
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN fails too
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


@contextlib.contextmanager
def frozen(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let input gradients be taken of a model at rest: eval mode, no gradients of weights, full precision.

    Works inside `no_grad`, `inference_mode` and `autocast`. Afterwards every module's training flag and every
    parameter's `requires_grad` are as before.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_EXCLUSIVE)
        stack.enter_context(_full_precision(device))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(_at_rest(model))
        yield


@contextlib.contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    training = [(module, module.training) for module in model.modules()]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.train()  # LeViT and its kin cache attention biases in eval mode and drop them only here
        model.eval()
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        model.train()
        for module, flag in training:
            module.training = flag


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
