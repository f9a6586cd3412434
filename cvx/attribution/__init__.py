"""What a model looks at: attributions of images, and the heatmaps drawn from them."""

from cvx.attribution.all_classes import attribute_all
from cvx.attribution.captum_methods import integrated_gradients, smoothgrad
from cvx.attribution.explainer import METHODS, PRECISIONS, attribute
from cvx.attribution.gradient import SCORES, NotFiniteError, vanilla_gradient
from cvx.attribution.heatmap import MODES, REDUCTIONS, Scaled, rescale, to_heatmap
from cvx.frozen import frozen

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


def rounding_error(
    exact: Float32[np.ndarray, "n c h w"], rounded: Float32[np.ndarray, "n c h w"]
) -> tuple[Float64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
    """Hold maps of a faster precision against the same maps in float32.

    Returns:
        For each image the cosine of the two signed maps, and the rank correlation of their magnitudes; nan where
        either map is zero everywhere.
    """
    one, other = traits(exact), traits(rounded)
    return cosine(one, other), spearman(one, other)
