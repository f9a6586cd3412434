"""Measure how alike models look, and whether their maps mean anything."""

import dataclasses
import sys
from typing import TYPE_CHECKING

import tyro

import cvx.cli
from cvx.cli.flags import OnDevice, ToWandb, WithData, store_flag
from cvx.maps.request import Request

if TYPE_CHECKING:
    from cvx.comparison import Models, Options, Runtime
    from cvx.store import Store

KINDS = ("agreement", "properties", "localization", "faithfulness", "sanity", "stability", "training", "embeddings")
DEFAULT = ("agreement", "properties")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareFlags(Request, OnDevice, WithData, ToWandb):
    """Compare stored models by numbers, with intervals, ceilings, floors and controls."""

    models: tyro.conf.Positional[tuple[str, ...]] = ()
    """NAME, NAME:best, NAME:latest, NAME:v3 or NAME@RUN; for agreement two or more that are asked about the
    same images."""
    measures: str = ""
    """agreement, properties, localization, faithfulness, sanity, stability, training, embeddings (commas between), or
    all that these models can have; default: agreement and properties, and localization where masks are known."""
    num_often: int = 50
    """Images for faithfulness, sanity and stability, which ask a model many times per image; at most num."""
    target: str = "label"
    """The class whose score is explained: label, the same for all models, or pred, each model's own."""
    method: str = "gradient"
    """gradient, smoothgrad or integrated_gradients, for all measures but training and embeddings."""
    seed: int = 0
    """Of random maps, noise and untrained models."""

    def __post_init__(self) -> None:
        """Leave the check to the request itself, whose errors are one line where tyro's are a box."""


def main(argv: list[str]) -> int:
    """Print tables and findings, and write them with their figures into the store's folder `compare`."""
    flags = cvx.cli.parse(CompareFlags, argv, "compare")
    if not flags.models:
        example = "python -m cvx compare digits-resnet18 digits-vit_mini"
        raise ValueError(f"name the models to compare; for example: {example}")
    if flags.num_often < 1:
        raise ValueError(f"num_often must be 1 image or more, got {flags.num_often}")
    from cvx.cli.compare_tables import Tables
    from cvx.comparison import Options, Runtime, share_models
    from cvx.distributed import pick_device
    from cvx.store.read_once import ReadOnce
    from cvx.tracking.command_run import log_command

    options = Options(**{field.name: getattr(flags, field.name) for field in dataclasses.fields(Options)})
    often = dataclasses.replace(options, num=min(options.num, flags.num_often))
    store = ReadOnce(flags.root)
    runtime = Runtime(data_root=flags.data_root, device=pick_device(flags.device), show_progress=True)
    models = share_models(store, flags.models, options, flags.data_root)
    kinds = _kinds(flags.measures, store, models, options, runtime)
    with log_command("compare", flags.wandb, flags.project, store) as told:
        tables = Tables(store, models, options, often, runtime, told)
        for kind in kinds:
            getattr(tables, kind)()
        tables.finish(store_flag(flags.artifacts))
    return 0


def _kinds(asked: str, store: "Store", models: "Models", options: "Options", runtime: "Runtime") -> tuple[str, ...]:
    """Return what is to be measured, in the order of KINDS; what cannot be is told before anything is computed.

    Raises:
        ValueError: If a measure is unknown, or one that was asked for by name cannot be had of these models.
    """
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if unknown := [name for name in names if name not in (*KINDS, "all")]:
        raise ValueError(f"unknown measure {unknown[0]!r}; known: {', '.join(KINDS)}, all")
    wanted = KINDS if "all" in names else names or (*DEFAULT, "localization")
    needed = DEFAULT[1:] if "all" in names else names or DEFAULT
    refused = {kind: why for kind in wanted if (why := _why_not(kind, store, models, options, runtime))}
    for kind, why in refused.items():
        if kind in needed:
            raise ValueError(why)
        if "all" in names:
            print(f"left out: {kind}: {why}", file=sys.stderr)
    return tuple(kind for kind in KINDS if kind in wanted and kind not in refused)


def _why_not(kind: str, store: "Store", models: "Models", options: "Options", runtime: "Runtime") -> str:
    """Say why these models cannot have a measure; nothing if they can."""
    from cvx import comparison

    try:
        comparison.check(kind, store, models, options, runtime)
    except ValueError as error:
        return str(error)
    return ""
