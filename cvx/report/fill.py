"""Fill every section with a store's content, once for both renderings."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from cvx.report.blocks import Block
from cvx.report.outline import SECTIONS, Section
from cvx.report.sections import (
    agreement,
    embeddings,
    film,
    gradient_step_by_step,
    map_quality,
    maps,
    predictions,
    reproduce,
    sweeps,
    training_results,
)
from cvx.report.snapshot import StoreSnapshot

PARTS: dict[str, Callable[[StoreSnapshot], list[Block]]] = {
    "runs": training_results.what_was_trained,
    "lesson": gradient_step_by_step.lesson,
    "curves": training_results.learning_curves,
    "confusion": predictions.confusion,
    "calibration": predictions.calibration,
    "maps": maps.maps,
    "classes": maps.classes,
    "film": film.film,
    "agreement": agreement.agreement,
    "localization": map_quality.localization,
    "faithfulness": map_quality.faithfulness,
    "sanity": map_quality.sanity,
    "stability": map_quality.stability,
    "embeddings": embeddings.embeddings,
    "sweeps": sweeps.sweeps,
    "reproduce": reproduce.reproduce,
}
"""What each section shows of a store."""


@dataclass(frozen=True, eq=False)
class Filled:
    """A section and what it shows of this store; no blocks where the store has nothing for it, such as sweeps."""

    section: Section
    blocks: tuple[Block, ...]


def fill(
    study: StoreSnapshot, tell: Callable[[str], None] = lambda _: None, only: Collection[str] | None = None
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
