"""Words and numbers as they stand in figures: scores, methods, units, percentages."""

SCORE_WORDS = {"logit": "logit", "logprob": "log-probability", "margin": "centered logit"}
METHOD_WORDS = {
    "gradient": "vanilla gradient",
    "smoothgrad": "SmoothGrad",
    "integrated_gradients": "Integrated Gradients",
}
REDUCTION_WORDS = {
    "max": "largest magnitude over the channels",
    "sum": "sum of the channels' magnitudes",
    "signed": "sum over the channels",
}
CLIP = 0.99


def unit(score: str, method: str) -> str:
    """Name the unit of a map: Integrated Gradients multiply by the pixel's change, the others are slopes."""
    return SCORE_WORDS[score] + ("" if method == "integrated_gradients" else " per unit pixel")


def percent(share: float) -> str:
    """Write a share so that only a true 0 or 1 reads as 0 % or 100 %."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def number(value: float) -> str:
    """Write a number with three significant digits, shortly: 0.0123, 4.56, 1.2e-05."""
    return "0" if value == 0 else f"{value:.3g}".replace("-", "\N{MINUS SIGN}", 1 if value < 0 else 0)
