"""What a model looks at: attributions of images, and the heatmaps drawn from them."""

from cvx.attribution.all_classes import attribute_all
from cvx.attribution.captum_methods import integrated_gradients, smoothgrad
from cvx.attribution.explainer import METHODS, PRECISIONS, attribute
from cvx.attribution.gradient import SCORES, NotFiniteError, vanilla_gradient
from cvx.attribution.heatmap import MODES, REDUCTIONS, Scaled, rescale, to_heatmap
from cvx.models.frozen import frozen

__all__ = [
    "METHODS",
    "MODES",
    "PRECISIONS",
    "REDUCTIONS",
    "SCORES",
    "NotFiniteError",
    "Scaled",
    "attribute",
    "attribute_all",
    "frozen",
    "integrated_gradients",
    "rescale",
    "rounding_error",
    "smoothgrad",
    "to_heatmap",
    "vanilla_gradient",
]
