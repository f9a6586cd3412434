"""Attributions of images, and the heatmaps drawn from them: tensors in, tensors out."""

import importlib
from typing import TYPE_CHECKING, Any

from cvx.attribution.options import MODES, REDUCTIONS, SCORES

if TYPE_CHECKING:
    from cvx.attribution.all_classes import attribute_all
    from cvx.attribution.explainer import METHODS, PRECISIONS, Explainer, attribute
    from cvx.attribution.gradient import NotFiniteError, vanilla_gradient
    from cvx.attribution.heatmap import Scaled, rescale, to_heatmap
    from cvx.attribution.smoothgrad_integrated_gradients import integrated_gradients, smoothgrad
    from cvx.models.frozen import frozen

_MODULES = {
    "METHODS": "cvx.attribution.explainer",
    "PRECISIONS": "cvx.attribution.explainer",
    "Explainer": "cvx.attribution.explainer",
    "NotFiniteError": "cvx.attribution.gradient",
    "Scaled": "cvx.attribution.heatmap",
    "attribute": "cvx.attribution.explainer",
    "attribute_all": "cvx.attribution.all_classes",
    "frozen": "cvx.models.frozen",
    "integrated_gradients": "cvx.attribution.smoothgrad_integrated_gradients",
    "rescale": "cvx.attribution.heatmap",
    "smoothgrad": "cvx.attribution.smoothgrad_integrated_gradients",
    "to_heatmap": "cvx.attribution.heatmap",
    "vanilla_gradient": "cvx.attribution.gradient",
}

__all__ = [
    "METHODS",
    "MODES",
    "PRECISIONS",
    "REDUCTIONS",
    "SCORES",
    "Explainer",
    "NotFiniteError",
    "Scaled",
    "attribute",
    "attribute_all",
    "frozen",
    "integrated_gradients",
    "rescale",
    "smoothgrad",
    "to_heatmap",
    "vanilla_gradient",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for: `options`, which lies here too, must not wait."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
