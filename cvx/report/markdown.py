"""Render blocks as Markdown: text and tables, without pictures."""

import re
from collections.abc import Iterator, Sequence

from cvx.report.blocks import Block, Command, Heading, LabeledList, Matrices, Matrix, Table, Text

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&-])")


def markdown(blocks: Sequence[Block]) -> Iterator[str]:
    """Write the texts, tables, matrices and commands among the blocks, a piece of Markdown each."""
    for block in blocks:
        if isinstance(block, Heading):
            yield f"### {escape(block.text)}" + (f"\n\n{escape(block.aside)}" if block.aside else "")
        elif isinstance(block, Text):
            yield ("> " if block.kind_of == "finding" else "") + escape(block.text)
        elif isinstance(block, Command):
            yield _code(block.text)
        elif isinstance(block, Table):
            yield _table(block.columns, block.rows) + (f"\n\n{escape(block.caption)}" if block.caption else "")
        elif isinstance(block, LabeledList):
            yield "\n".join(f"* **{escape(lead)}**: {escape(words)}" for lead, words in block.items)
        elif isinstance(block, Matrices):
            yield from map(_matrix, block.matrices)


def escape(text: str) -> str:
    """Let every character of a name or a sentence stand for itself."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    fence = "`" * max([3, *(len(found) + 1 for found in re.findall("`+", text))])
    return f"{fence}\n{text}\n{fence}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(cell if i == 1 else escape(cell) for cell in line) + " |" for i, line in enumerate(lines)
    )


def _matrix(matrix: Matrix) -> str:
    rows = [(name, *(words for words, _ in cells)) for name, cells in zip(matrix.rows, matrix.cells, strict=True)]
    table = _table((matrix.corner, *matrix.columns), rows)
    return f"**{escape(matrix.title)}**\n\n{table}\n\n{escape(matrix.note)}"
