"""Explain one score of each image by any method, in batches that fit into memory."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from cvx import cancellation
from cvx.attribution.batch_size import bytes_per_image, check_batch, check_memory, images_that_fit
from cvx.attribution.gradient import SCORES, NotFiniteError, check, vanilla_gradient
from cvx.attribution.smoothgrad_integrated_gradients import integrated_gradients, smoothgrad
from cvx.models.fold_batchnorm import WORTHWHILE, FastCopy
from cvx.models.frozen import detached_input, frozen

METHODS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "gradient": vanilla_gradient,
    "smoothgrad": smoothgrad,
    "integrated_gradients": integrated_gradients,
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""What maps may be computed in. Only float32 is exact; bfloat16 is sooner, and `rounding_error` says how far off."""


class Explainer:
    """Explains one score of each image, by one method, for one model: made once for a request of any number of images.

        with Explainer(model, num=len(photographs), score="margin") as explainer:
            for inputs, targets in batches:
                logits, attribution = explainer(inputs, targets)

    Many images are explained of a folded copy of the model, which is faster and equal to rounding (`FastCopy`). It is
    made at most once, at the first call, if the whole request is large enough to be worth it. Where it cannot be
    checked against the model, fails, or the model's weights change between two calls, the model itself is used from
    then on, so each call's maps are of the weights at that call. During a call the weights must not change.

    Memory: while the explainer is open its copy holds the convolutions' weights once more (45 MB for a ResNet-18,
    nothing for a ViT). Whoever makes an explainer closes it, best by `with`; closing lets go of the copy.

    Threads: one at a time may use an explainer; make one for each. Explainers of the same model may be used in several
    threads, which compute in turn (`frozen`).
    """

    def __init__(
        self,
        model: nn.Module,
        num: int = 0,
        score: str = "logit",
        method: str = "gradient",
        precision: str = "fp32",
        batch_size: int = 0,
    ) -> None:
        """Take the request; nothing is computed yet.

        Args:
            num: Images of the whole request, over all calls; 0 takes those of the first call for all.
            score: One of SCORES.
            method: One of METHODS.
            precision: One of PRECISIONS.
            batch_size: Images per pass; 0 measures what one image needs. On CUDA a batch that is too large after all
                is halved and tried again. The result does not depend on it.

        Raises:
            ValueError: If the score, the method or the precision is unknown, or the batch size negative.
        """
        choices = (("method", METHODS, method), ("precision", PRECISIONS, precision), ("score", SCORES, score))
        for name, known, chosen in choices:
            if chosen not in known:
                raise ValueError(f"unknown {name} {chosen!r}; known: {', '.join(known)}")
        check_batch(batch_size)
        self.model = model
        self.score, self.method, self.precision = score, method, precision
        self._num, self._batch_size = num, batch_size
        self._dtype = PRECISIONS[precision]
        self._fast: FastCopy | None = None
        self._bytes: dict[tuple[object, ...], int] = {}
        self._closed = False

    def __enter__(self) -> "Explainer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the copy; a closed explainer explains nothing more."""
        if self._fast is not None:
            self._fast.close()
        self._bytes.clear()
        self._closed = True

    def __call__(
        self, inputs: Float[Tensor, "n c h w"], targets: Int64[Tensor, "n"] | None = None, slack: float = 0.0
    ) -> tuple[Float32[Tensor, "n k"], Float32[Tensor, "n c h w"]]:
        """Explain some images of the request.

        Args:
            targets: The class that each image's score is taken of; None takes the predicted class.
            slack: How far inputs may lie outside [0, 1], as images with noise do.

        Returns:
            The logits, and the signed attribution in the method's unit.

        Raises:
            ValueError: If an image's map would not fit into memory, or as `vanilla_gradient`.
            NotFiniteError: If an image's logits or gradient are not finite; the message names the image.
            RuntimeError: If the explainer is closed.
        """
        if self._closed:
            raise RuntimeError("this explainer is closed; make a new one for more images")
        check(inputs, targets, self.score, slack)
        if len(inputs):
            check_memory(self.model, inputs[:1])

        def explained(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
            def explain(rows: slice) -> tuple[Tensor, Tensor]:
                own = targets[rows] if targets is not None else self._prediction(model, inputs[rows])
                return METHODS[self.method](model, inputs[rows], own, self.score, self._dtype, slack)

            return _in_batches(explain, len(inputs), self._choose_batch_size(model, inputs))

        if not len(inputs):
            parts = explained(self.model)
        else:
            if self._fast is None:
                worthwhile = (self._num or len(inputs)) >= WORTHWHILE
                self._fast = FastCopy(self.model, self._dtype, worthwhile=worthwhile)
            parts = self._fast.compute(explained, inputs[:1])
        logits, attribution = zip(*parts, strict=True)
        return torch.cat(logits), torch.cat(attribution)

    def _choose_batch_size(self, model: nn.Module, inputs: Float[Tensor, "n c h w"]) -> int:
        """Measure once what an image needs, and at every call how many of them fit into the memory that is free."""
        if self._batch_size or len(inputs) < 2:
            return self._batch_size or 1
        key = (model is self.model, inputs.shape[1:], inputs.device)
        if key not in self._bytes:
            self._bytes[key] = bytes_per_image(model, inputs[:1])
        return images_that_fit(self._bytes[key], inputs.device)

    def _prediction(self, model: nn.Module, inputs: Float[Tensor, "n c h w"]) -> Int64[Tensor, "n"] | None:
        """Predict for a method that does not find the predicted class by itself."""
        if self.method == "gradient":
            return None
        with frozen(model, inputs.device, self._dtype), torch.no_grad():
            return model(detached_input(model, inputs)).argmax(dim=1)


def attribute(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, "n"] | None = None,
    score: str = "logit",
    method: str = "gradient",
    batch_size: int = 0,
    precision: str = "fp32",
) -> tuple[Float32[Tensor, "n k"], Float32[Tensor, "n c h w"]]:
    """Explain images that are all at hand: one call of an `Explainer`, whose arguments and errors it has."""
    with Explainer(model, len(inputs), score, method, precision, batch_size) as explainer:
        return explainer(inputs, targets)


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
