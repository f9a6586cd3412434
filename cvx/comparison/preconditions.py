"""Check what a measure needs of models before anything is computed."""

from cvx.comparison.agreement import check_comparable
from cvx.comparison.embeddings import final_frame
from cvx.comparison.per_model import check_masked
from cvx.comparison.request import HERE, Models, Options, Runtime, entries_of, resolve_models
from cvx.comparison.training_history import filmed_run
from cvx.store import Store


def check(kind: str, store: Store, models: Models, options: Options, runtime: Runtime = HERE) -> None:
    """Refuse a measure that these models cannot have.

    Args:
        kind: The name of a measure: `agreement`, `properties`, …

    Raises:
        ValueError: As the measure itself would, if the models or their images do not allow for it.
    """
    if kind == "training":
        for entry in entries_of(store, models):
            filmed_run(store, entry)
    elif kind == "embeddings":
        for entry in entries_of(store, models):
            final_frame(store, entry)
    else:
        asked = resolve_models(store, models, options, runtime.data_root)
        if kind == "agreement":
            check_comparable(asked)
        elif kind == "localization":
            check_masked(asked)
