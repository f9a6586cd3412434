"""The lines of BENCHMARKS.md that the README shows, between two marks."""

from collections.abc import Iterable

START, END = "<!-- written by `make bench` -->\n", "<!-- end of what `make bench` writes -->"
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
    """Return the machine and the table; a line that was not measured is left out."""
    machines, rows = {}, {}
    for section in sections:
        facts = section.splitlines()[2].rpartition("; measured in")[0]
        for line in section.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            for what, against in SHOWN:
                if cells[0] == what and cells[2].startswith(against):
                    machines[facts], rows[what, against] = None, cells[:4]
    head = ["| what | result | held against | ratio |", "|---|---|---|---|"]
    lines = [f"| {' | '.join(rows[one])} |" for one in SHOWN if one in rows]
    return "\n".join([*machines, "", *head, *lines]) + "\n"


def replaced(text: str, sections: Iterable[str]) -> str:
    """Return the README's text with the lines between the marks as they are now."""
    before, _, rest = text.partition(START)
    return f"{before}{START}\n{excerpt(sections)}\n{END}" + rest.partition(END)[2]
