"""Write numbers as they stand in figures: percentages, and three significant digits."""

CLIP = 0.99


def percent(share: float) -> str:
    """Write a share so that only a true 0 or 1 reads as 0 % or 100 %."""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def number(value: float) -> str:
    """Write a number with three significant digits, shortly: 0.0123, 4.56, 1.2e-05."""
    return "0" if value == 0 else f"{value:.3g}".replace("-", "\N{MINUS SIGN}", 1 if value < 0 else 0)
