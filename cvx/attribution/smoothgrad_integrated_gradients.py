"""Second opinions by captum, behind the vanilla gradient's interface."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from cvx import cancellation
from cvx.attribution.gradient import check, finished, pick, scores
from cvx.models.frozen import detached_input, frozen

NOISE = 0.15
"""Standard deviation of SmoothGrad's noise, as a share of the range of inputs, [0, 1]."""
NUM_SAMPLES = 25
NUM_STEPS = 50
"""Steps of the integral, by Gauss-Legendre quadrature."""
_TOGETHER = 5  # noisy copies per pass; fixed, so that the noise does not depend on the machine's memory


def smoothgrad(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, "n"],
    score: str = "logit",
    precision: torch.dtype = torch.float32,
    slack: float = 0.0,
    seed: int = 0,
) -> tuple[Float32[Tensor, "n k"], Float32[Tensor, "n c h w"]]:
    """Average the gradient over noisy copies of each image (Smilkov et al., 2017, arXiv:1706.03825).

    The noise is Gaussian, and not clipped to [0, 1]. Every image meets the same draws, so its map does not depend on
    its batch, and two models see the same noise. The process's random state (CPU and CUDA) is left alone.

    Returns:
        The logits of the images without noise, and the signed mean gradient in units of the score per unit pixel.

    Raises:
        ValueError: As `vanilla_gradient`.
    """
    from captum.attr import NoiseTunnel, Saliency

    def explain(forward: Callable[[Tensor], Tensor], image: Tensor, target: Tensor) -> Tensor:
        devices = range(torch.cuda.device_count()) if image.is_cuda else ()
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            return NoiseTunnel(Saliency(forward)).attribute(
                image,
                target=target,
                nt_type="smoothgrad",
                nt_samples=NUM_SAMPLES,
                nt_samples_batch_size=_TOGETHER,
                stdevs=NOISE,
                abs=False,
            )

    return _one_by_one(explain, model, inputs, targets, score, precision, slack)


def integrated_gradients(
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, "n"],
    score: str = "logit",
    precision: torch.dtype = torch.float32,
    slack: float = 0.0,
) -> tuple[Float32[Tensor, "n k"], Float32[Tensor, "n c h w"]]:
    """Integrate the gradient along the straight way from a black image (Sundararajan et al., 2017, arXiv:1703.01365).

    A pixel's value is its share in the difference between the image's score and that of black (completeness), so it
    is in units of the score, not per unit pixel, and pixels that are black have none.

    Returns:
        The logits, and the signed attribution.

    Raises:
        ValueError: As `vanilla_gradient`.
    """
    from captum.attr import IntegratedGradients

    def explain(forward: Callable[[Tensor], Tensor], image: Tensor, target: Tensor) -> Tensor:
        return IntegratedGradients(forward).attribute(
            image, baselines=0.0, target=target, n_steps=NUM_STEPS, internal_batch_size=2 * _TOGETHER
        )

    return _one_by_one(explain, model, inputs, targets, score, precision, slack)


def _one_by_one(
    explain: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor],
    model: nn.Module,
    inputs: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, "n"],
    score: str,
    precision: torch.dtype,
    slack: float,
) -> tuple[Float32[Tensor, "n k"], Float32[Tensor, "n c h w"]]:
    check(inputs, targets, score, slack)
    with frozen(model, inputs.device, precision):
        images = detached_input(model, inputs)
        with torch.no_grad():
            logits = model(images)
        pick(logits, targets)

        def forward(x: Tensor) -> Tensor:
            cancellation.check()
            return scores(model(x), score)

        maps = [explain(forward, images[i : i + 1], targets[i : i + 1].clone()) for i in range(len(images))]
    return finished(logits, torch.cat(maps) if maps else images)
