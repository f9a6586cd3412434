"""Pick the lines of the benchmarks page that stand at its top, in short."""

from collections.abc import Iterable

TITLE = "In short"
SHOWN = (
    ("resnet18: whole loop", "bare step"),
    ("resnet18: arithmetic of the bare step", "bfloat16 product"),
    ("resnet18: whole loop", "torchvision"),
    ("resnet18: whole loop", "timm's loader"),
    ("resnet18: everything recorded of an epoch, 1000 val images evaluated", ""),
    ("vit_mini: whole loop", "bare step"),
    ("crop, flip and mixup", "torchvision"),
    ("resnet18: maps of given targets", "captum"),
    ("resnet18: maps of the prediction", "captum"),
    ("resnet18: maps of the prediction, bf16", "captum"),
    ("vit_tiny: maps of given targets", "captum"),
    ("vit_tiny: maps of the prediction", "captum"),
    ("python -m cvx train to the first recorded step", ""),
    ("demo/app.py to the page", ""),
    ("two datasets × two models, a new image", ""),
)
"""What is measured, and how what it is held against begins."""


def excerpt(sections: Iterable[str]) -> str:
    """Return the section at the top: the machine and the table; a line that was not measured is left out."""
    machines: dict[str, None] = {}
    rows: dict[tuple[str, str], list[str]] = {}
    for section in sections:
        facts = section.splitlines()[2].rpartition("; measured in")[0]
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            for what, against in SHOWN:
                if cells[0] == what and cells[2].startswith(against):
                    machines[facts] = None
                    rows[what, against] = cells[:4]
    head = ["| what | result | held against | ratio |", "|---|---|---|---|"]
    lines = [f"| {' | '.join(rows[shown])} |" for shown in SHOWN if shown in rows]
    return "\n".join([f"## {TITLE}", "", *machines, "", *head, *lines]) + "\n"
