"""Measure how alike models look, and whether their maps mean anything."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

import cvx.cli
from cvx.cli.flags import OnStore

if TYPE_CHECKING:
    from cvx.store import Store

KINDS = ("agreement", "properties", "localization", "faithfulness", "sanity", "stability", "training", "embeddings")
DEFAULT = ("agreement", "properties")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(OnStore):
    """Compare stored models by numbers, with intervals, ceilings, floors and controls."""

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """NAME, NAME:best, NAME:latest, NAME:v3 or NAME@RUN; for agreement two or more of one dataset."""
    measures: str = ""
    """agreement, properties, localization, faithfulness, sanity, stability, training, embeddings (commas between), or
    all; default: agreement and properties, and localization where masks are known."""
    split: str = "samples"
    """samples (the store's fixed test images; they need no dataset), test, val or train."""
    num: int = 1000
    """Images, from the front of the split, which is in a fixed, stratified order."""
    num_often: int = 50
    """Images for faithfulness, sanity and stability, which ask a model many times per image; at most num."""
    target: str = "label"
    """The class whose score is explained: label, the same for all models, or pred, each model's own."""
    score: str = "logit"
    """logit, logprob, or margin (the logit less the mean of all)."""
    method: str = "gradient"
    """gradient, smoothgrad or integrated_gradients, for all measures but training and embeddings."""
    seed: int = 0
    """Of random maps, noise and untrained models."""
    data: str = ""
    """The data root, for splits other than samples; default: CVX_DATA or ~/.cache/cvx."""
    wandb: Literal["auto", "on", "off"] = "auto"
    """Log tables, numbers and figures to W&B, as a run that uses the models' artifacts: where there is an account,
    always, never."""
    project: str = ""
    """[ENTITY/]PROJECT of W&B; default: WANDB_PROJECT, or cvx."""


def main(argv: list[str]) -> int:
    """Print tables and findings, and write them with their figures into the store's folder `compare`."""
    flags = cvx.cli.parse(Flags, argv, "compare")
    if not flags.models:
        example = "python -m cvx compare digits-resnet18 digits-vit_mini"
        raise ValueError(f"name the models to compare; for example: {example}")
    from cvx import config
    from cvx.cli.compare_tables import Tables
    from cvx.distributed import pick_device
    from cvx.measures import How, Options
    from cvx.store import Store
    from cvx.tracking.looking import looking

    options = Options(**{field.name: getattr(flags, field.name) for field in dataclasses.fields(Options)})
    often = dataclasses.replace(options, num=min(options.num, flags.num_often))
    store = Store(flags.artifacts or config.default_artifacts())
    data_root = Path(flags.data) if flags.data else config.default_data()
    how = How(data_root=data_root, device=pick_device(flags.device), show_progress=True)
    kinds = _kinds(flags.measures, store, flags.models)
    with looking("compare", flags.wandb, flags.project, store) as told:
        tables = Tables(store, flags.models, options, often, how, told)
        for kind in kinds:
            getattr(tables, kind)()
        tables.finish(f" --artifacts={flags.artifacts}" if flags.artifacts else "")
    return 0


def _kinds(asked: str, store: "Store", references: Sequence[str]) -> tuple[str, ...]:
    """Return what is to be measured, in the order of KINDS."""
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if unknown := [name for name in names if name not in (*KINDS, "all")]:
        raise ValueError(f"unknown measure {unknown[0]!r}; known: {', '.join(KINDS)}, all")
    masked = _have_masks(store, references)
    if "all" in names:
        return tuple(kind for kind in KINDS if masked or kind != "localization")
    chosen = names or [*DEFAULT, *(["localization"] if masked else [])]
    return tuple(kind for kind in KINDS if kind in chosen)


def _have_masks(store: "Store", references: Sequence[str]) -> bool:
    cards = [store.resolve(reference).card for reference in references]
    try:
        return all(card and store.samples(card.dataset, card.samples).split.masks is not None for card in cards)
    except ValueError:
        return False
