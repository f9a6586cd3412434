"""Names of what may be asked of a map, and their words; no torch, so that flags and page can list them at once."""

SCORE_WORDS = {"logit": "logit", "logprob": "log-probability", "margin": "centered logit"}
SCORES = tuple(SCORE_WORDS)
"""What may be explained of a class: its logit, its log-probability, or its logit less the mean over the classes."""

METHOD_WORDS = {
    "gradient": "vanilla gradient",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "Integrated Gradients",
}
METHOD_NAMES = tuple(METHOD_WORDS)
"""How it may be explained; `cvx.attribution.METHODS` has the functions."""

REDUCTION_WORDS = {
    "max": "largest magnitude over the channels",
    "sum": "sum of the channels' magnitudes",
    "signed": "sum over the channels",
}
REDUCTIONS = tuple(REDUCTION_WORDS)
"""How channels become one: the largest magnitude, the sum of the magnitudes, or the signed sum."""

MODES = ("shared", "each", "absolute")
"""Which maps are on one scale: all that are given, none, or all with a limit that is given too."""

PRECISION_NAMES = ("fp32", "bf16")
"""What maps may be computed in; `cvx.attribution.PRECISIONS` has the types."""

TARGETS = ("label", "pred")
"""What a target may be beside a class name: the ground truth, or the class the model predicts."""

SPLITS = ("samples", "test", "val", "train")
"""Whose images can be looked at: the store's fixed test images, or a part of the dataset itself."""


def unit(score: str, method: str) -> str:
    """Name the unit of a map: Integrated Gradients multiply by the pixel's change, the others are slopes."""
    return SCORE_WORDS[score] + ("" if method == "integrated_gradients" else " per unit pixel")


def check_choices(asked: object, choices: dict[str, tuple[str, ...]]) -> None:
    """Refuse a request whose field has a value that is not allowed.

    Args:
        choices: The allowed values of a field, by its name.

    Raises:
        ValueError: If a value is unknown; the message lists the known ones.
    """
    for name, allowed in choices.items():
        if getattr(asked, name) not in allowed:
            raise ValueError(f"unknown {name} {getattr(asked, name)!r}; known: {', '.join(allowed)}")
