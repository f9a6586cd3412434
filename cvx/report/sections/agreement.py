"""Report section on agreement: matrices with ceiling and floor, findings, the images where two models differ most."""

import numpy as np

from cvx import comparison
from cvx.comparison import AGREEMENT_WORDS, Agreement
from cvx.report.blocks import Block, Heading, Matrices, Matrix, Text
from cvx.report.sections.maps import map_grid
from cvx.report.snapshot import DatasetResults, StoreSnapshot, placeless

SHOWN = ("spearman", "spearman_signed", "topk", "ssim")
FLOOR_WORDS = {"sobel": "edges", "random": "noise", "other_image": "other images"}
NUM_DIFFERENT = 8


def agreement(study: StoreSnapshot) -> list[Block]:
    """Compare the models of each dataset pair by pair, on the images that the page's maps are of."""
    blocks: list[Block] = []
    for part in study.parts:
        if part.lookers:
            blocks += [Heading(part.dataset), *_of_dataset(study, part)]
    blocks = blocks or [Text("No model of this store can look at its samples.", "note")]
    return [*blocks, Text(comparison.WHY_NOT_PIXELWISE, "note")] if len(study.parts) > 1 else blocks


def _of_dataset(study: StoreSnapshot, part: DatasetResults) -> list[Block]:
    try:
        found = comparison.agreement(study.store, part.models, comparison.Options(num=study.num), study.runtime, SHOWN)
    except ValueError as error:
        return [Text(placeless(str(error), study.store), "note")]
    blocks: list[Block] = [Text(found.sentence(i, j), "finding") for i, j in found.pairs()[:6]]
    blocks.append(Matrices((*(_matrix(found, name) for name in SHOWN), _cka(found))))
    i, j = min(found.pairs(), key=lambda pair: np.nan_to_num(found.interval("spearman", *pair).mean, nan=2.0))
    rows = [int(row) for row in found.most_different(i, j, k=NUM_DIFFERENT)]
    if rows:
        pair = f"{found.columns[i]} and {found.columns[j]}"
        blocks.append(Heading("Least alike", f"the images of which {pair} have the most different maps"))
        blocks.append(map_grid(part, rows, f"differ-{part.dataset}", [part.lookers[i], part.lookers[j]]))
    return blocks


def _matrix(found: Agreement, name: str) -> Matrix:
    """Put models against models, and beyond a gap against what knows no other model; the diagonal is the ceiling."""
    title, words = AGREEMENT_WORDS[name]
    num, rows = len(found.references), []
    for i in range(num):
        ceiling = found.ceiling(name, i)
        means = [found.interval(name, i, j).mean for j in range(num)]
        means[i] = float("nan") if ceiling is None else ceiling.mean
        means += [found.floor(name, i, kind).mean for kind in FLOOR_WORDS]
        rows.append(tuple((comparison.decimal(value), float(np.clip(value, 0, 1))) for value in means))
    note = f"{words[:1].upper()}{words[1:]}. On the diagonal: other seeds of the same recipe."
    return Matrix(title, "", found.columns, (*found.columns, *FLOOR_WORDS.values()), tuple(rows), note, num)


def _cka(found: Agreement) -> Matrix:
    """Put models against models by how they arrange the images, whatever they look at (Kornblith et al., 2019)."""
    rows = tuple(tuple((comparison.decimal(value), float(value)) for value in line) for line in found.cka)
    note = "How alike the models arrange the same images by their logits (Kornblith et al., 2019, arXiv:1905.00414)."
    return Matrix("Linear CKA of the logits", "", found.columns, found.columns, rows, note)
