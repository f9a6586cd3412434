"""Decide which expensive measures a report may compute, and which `compare` has kept already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cvx.comparison import Options
from cvx.comparison.faithfulness import NUM_IMAGES
from cvx.comparison.request import Models, ResolvedModel, resolve_models
from cvx.comparison.result_cache import cache_key, load_cached
from cvx.store import Store

PASSES = {"stability": 20, "sanity": 30, "faithfulness": 200}
"""Gradients of an image that take about as long as the measure; faithfulness took 60 to 310 on the starter models."""


@dataclass(frozen=True)
class Afforded:
    """Whether a measure of one dataset's models is shown, with these options, or how long it would take."""

    options: Options | None
    seconds: float = 0.0


def afford(
    store: Store, models: Mapping[str, Sequence[tuple[str | ResolvedModel, float]]], num_often: int, budget_s: float
) -> dict[tuple[str, str], Afforded]:
    """Choose, by measure and dataset, what is shown: what is kept, and of the rest what fits into the budget.

    Args:
        models: By dataset, models, resolved or by name, with the seconds that one gradient of one image takes.
        num_often: Images for what is not kept; 0 computes nothing.
        budget_s: Seconds that all of it may take, by estimate.
    """
    found, spent = {}, 0.0
    for kind, passes in PASSES.items():
        for dataset, own in models.items():
            asked = [model for model, _ in own]
            kept = [num for num in {NUM_IMAGES, num_often} if num and _kept(store, kind, asked, num)]
            seconds = max(1, num_often) * passes * sum(pass_s for _, pass_s in own)
            if kept:
                found[kind, dataset] = Afforded(Options(num=max(kept)))
            elif num_often and spent + seconds <= budget_s:
                spent += seconds
                found[kind, dataset] = Afforded(Options(num=num_often))
            else:
                found[kind, dataset] = Afforded(None, seconds)
    return found


def _kept(store: Store, kind: str, models: Models, num: int) -> bool:
    options = Options(num=num)
    try:
        asked = resolve_models(store, models, options)
    except ValueError:
        return False
    return all(load_cached(store, kind, cache_key(one, options)) is not None for one in asked)
