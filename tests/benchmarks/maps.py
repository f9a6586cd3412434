"""Vanilla gradient maps per second, against captum's Saliency on the same model and the same images."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from captum.attr import Saliency
from measuring import Row, in_turns, product_peak
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cvx import models
from cvx.attribution import PRECISIONS, attribute, attribute_all, vanilla_gradient
from cvx.metrics.agreement import rounding_error

NUM = 128
PREDICTED = {
    "resnet18": ("1.15: BatchNorm and ReLU are 12 % of the pass", "1.7: three passes become two"),
    "vit_tiny": ("1.25: the last block for one token, biases and GELU in place", "1.7: three passes become two"),
}
ROUNDED = {"resnet18": ("≥ 2.5", "≥ 3"), "vit_tiny": ("1.5", "2")}
"""Asked for with bfloat16."""
CLASSES = 200


def rows() -> Iterator[Row]:
    """Measure a ResNet-18 and a ViT-tiny at 32 px."""
    peak = product_peak(torch.float32)
    for name in ("resnet18", "vit_tiny"):
        yield from _model(name, peak)


def _model(name: str, peak: float) -> Iterator[Row]:
    model, inputs = _settled(name), torch.rand(NUM, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        targets = model(inputs).argmax(1)

    def captum(chosen: torch.Tensor | None = None) -> torch.Tensor:
        if chosen is None:
            with torch.no_grad():
                chosen = model(inputs).argmax(1)
        return Saliency(model).attribute(inputs.clone().requires_grad_(), target=chosen, abs=False)

    times = in_turns(
        {
            "captum": lambda: captum(targets),
            "ours": lambda: attribute(model, inputs, targets),
            "rounded": lambda: attribute(model, inputs, targets, precision="bf16"),
            "captum, prediction": captum,
            "ours, prediction": lambda: attribute(model, inputs),
            "rounded, prediction": lambda: attribute(model, inputs, precision="bf16"),
        }
    )
    for end, predicted in zip(("", ", prediction"), PREDICTED[name], strict=True):
        what = f"{name}: maps of {'the prediction' if end else 'given targets'}"
        for way, kind, expected in (("ours", "", predicted), ("rounded", ", bf16", ROUNDED[name][bool(end)])):
            ours, theirs = times[way + end], times[f"captum{end}"]
            numbers = (f"{NUM / ours:.0f} maps/s", f"captum {NUM / theirs:.0f}", f"{theirs / ours:.2f}")
            yield Row(what + kind, *numbers, expected)
    speed = _operations(model, inputs) / times["ours"]
    yield Row(
        f"{name}: arithmetic of a map",
        f"{speed / 1e9:.0f} GFLOP/s",
        f"float32 product {peak / 1e9:.0f}",
        f"{speed / peak:.2f}",
        "0.7",
    )
    yield _error(name, model, inputs, targets, captum(targets))
    yield _rounding(name, model, inputs, targets)
    yield _every_class(name, inputs[:1])


def _settled(name: str) -> nn.Module:
    """Build a model whose BatchNorms have statistics of random images, as after training."""
    torch.manual_seed(0)
    model = models.build(name, 10, 32)
    with torch.no_grad():
        for _ in range(8):
            model.train()(torch.rand(32, 3, 32, 32))
    return model.eval()


def _operations(model: nn.Module, inputs: torch.Tensor) -> float:
    still = copy.deepcopy(model).requires_grad_(False)
    leaf = inputs[:4].clone().requires_grad_()
    with FlopCounterMode(display=False) as counter:
        still(leaf).sum().backward()
    return counter.get_total_flops() / len(leaf) * len(inputs)


def _error(name: str, model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, theirs: torch.Tensor) -> Row:
    """Compare both with float64: a ReLU at the edge of zero may fall either way in float32, in either program."""
    few = slice(0, 32)
    ours = attribute(model, inputs[few], targets[few])[1]
    exact = copy.deepcopy(model).double()
    truth = Saliency(exact).attribute(inputs[few].double().requires_grad_(), target=targets[few], abs=False)

    def median_error(maps: torch.Tensor) -> float:
        difference = (maps.double() - truth).flatten(1).abs().amax(1)
        return float((difference / truth.flatten(1).abs().amax(1)).median())

    own, other = median_error(ours), median_error(theirs[few])
    what = f"{name}: error of a map to float64, share of its largest value (median of 32)"
    return Row(what, f"{own:.1e}", f"captum {other:.1e}", f"{own / other:.2f}", "1")


def _rounding(name: str, model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> Row:
    """Hold bfloat16 maps against float32: the worst of random weights; `attribute` says it of trained ones."""
    few = slice(0, 32)
    exact, rounded = (attribute(model, inputs[few], targets[few], precision=one)[1].numpy() for one in PRECISIONS)
    cosines, ranks = rounding_error(exact, rounded)
    what = f"{name}: bf16 maps against float32, median and lowest cosine of 32 (untrained)"
    found = f"{np.median(cosines):.4f}, {cosines.min():.4f}"
    return Row(what, found, "rank correlation", f"{np.median(ranks):.3f}, {ranks.min():.3f}", "0.99 (ViT 0.8)")


def _every_class(name: str, image: torch.Tensor) -> Row:
    torch.manual_seed(0)
    model = models.build(name, CLASSES, 32).eval()
    copies, targets = image.expand(CLASSES, -1, -1, -1), torch.arange(CLASSES)
    times = in_turns(
        {"all": lambda: attribute_all(model, image), "one by one": lambda: vanilla_gradient(model, copies, targets)}, 2
    )
    result, against = f"{times['all']:.2f} s", f"{CLASSES} copies {times['one by one']:.2f} s"
    ratio = f"{times['one by one'] / times['all']:.2f}"
    return Row(f"{name}: maps of {CLASSES} classes of one image", result, against, ratio, "1.5: no passes forward")
