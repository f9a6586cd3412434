"""Sections filled with what a store holds: made once, drawn by both renderings."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from cvx.report import alike, films, judged, lesson, numbers, pictures, trust
from cvx.report.blocks import Block
from cvx.report.outline import SECTIONS, Section
from cvx.report.snapshot import Study

PARTS: dict[str, Callable[[Study], list[Block]]] = {
    "runs": numbers.what_was_trained,
    "lesson": lesson.lesson,
    "curves": numbers.learning_curves,
    "confusion": judged.confusion,
    "calibration": judged.calibration,
    "maps": pictures.maps,
    "classes": pictures.classes,
    "film": films.film,
    "agreement": alike.agreement,
    "localization": trust.localization,
    "faithfulness": trust.faithfulness,
    "sanity": trust.sanity,
    "stability": trust.stability,
    "embeddings": films.embeddings,
    "sweeps": numbers.sweeps,
    "reproduce": numbers.reproduce,
}
"""What each section shows of a store."""


@dataclass(frozen=True, eq=False)
class Filled:
    """A section and what it shows of this store; no blocks where the store has nothing for it, such as sweeps."""

    section: Section
    blocks: tuple[Block, ...]


def fill(
    study: Study, tell: Callable[[str], None] = lambda _: None, only: Collection[str] | None = None
) -> list[Filled]:
    """Make every section's blocks, in the order of the list, or those of the sections with these keys."""
    filled = []
    for section in SECTIONS:
        if only is not None and section.key not in only:
            continue
        tell(section.title)
        filled.append(Filled(section, tuple(PARTS[section.key](study))))
    return filled


EMPTY = tuple(Filled(section, ()) for section in SECTIONS)
"""Of a store that holds nothing: what is said and how to read it."""
