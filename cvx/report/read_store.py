"""Read a store, or one run of it, into a snapshot; name what is broken."""

import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cvx.comparison import LoadedModels, Options, share_models
from cvx.comparison.faithfulness import NUM_IMAGES
from cvx.maps.explanation import explain_images
from cvx.report.affordable_measures import afford
from cvx.report.snapshot import DatasetResults, ExplainedModel, Recipe, RunRecord, StoreSnapshot, number, placeless
from cvx.store import ModelEntry, Store
from cvx.store.checkpoint import Card
from cvx.store.runs import Run, list_runs
from cvx.store.store import Samples


def read(
    store: Store,
    num: int = 200,
    device: torch.device | str = "cpu",
    defaults: Mapping[str, Any] | None = None,
    show_progress: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    num_often: int = 20,
    budget_s: float = 120,
) -> StoreSnapshot:
    """Read all runs and let every model's best version look at the dataset's first `num` samples.

    What is broken or not done is named in `problems`, not left out in silence.

    Args:
        num: Samples of each dataset, at least one.
        num_often: Images for measures that ask a model many times per image; 0 shows only what is kept.
        budget_s: Seconds for all of these measures, by estimate.

    Raises:
        ValueError: If the store holds no model and no run at all, or a number is too small.
    """
    for name, value, least in (("num", num, 1), ("num_often", num_often, 0), ("budget_s", budget_s, 0)):
        if value < least:
            raise ValueError(f"{name} must be {least} or more, got {value}")
    problems: list[str] = []
    pasts = _pasts(list_runs(store.root), problems)
    entries = _readable(store.best(), problems)
    if not pasts and not entries:
        told = f" that can be read ({'; '.join(problems)})" if problems else " yet"
        raise ValueError(f"the store {store.root} holds no run and no model{told}; `python -m cvx starter` trains some")
    datasets = sorted({str(past.config["dataset"]) for past in pasts} | {card.dataset for _, card in entries})
    parts, loaded = [], LoadedModels()
    most = Options(num=max(num, num_often, NUM_IMAGES))
    for dataset in datasets:
        own = [(entry, card) for entry, card in entries if card.dataset == dataset]
        samples, lookers = _lookers(store, own, num, torch.device(device), problems, tell, loaded)
        recipes = _recipes([past for past in pasts if past.config["dataset"] == dataset])
        models = share_models(store, [one.entry.reference for one in lookers], most, loaded=loaded) if lookers else ()
        parts.append(DatasetResults(dataset, samples, recipes, lookers, models))
    problems = [placeless(problem, store) for problem in problems]
    costs = {
        part.dataset: [(model, one.pass_s) for model, one in zip(part.models, part.lookers, strict=True)]
        for part in parts
        if part.lookers
    }
    often, where = afford(store, costs, num_often, budget_s), torch.device(device)
    facts = (store, tuple(parts), tuple(problems), num, where, defaults or {}, show_progress)
    return StoreSnapshot(*facts, often=often, loaded=loaded)


def read_run(
    store: Store,
    run: Run,
    num: int,
    device: torch.device | str = "cpu",
    defaults: Mapping[str, Any] | None = None,
) -> StoreSnapshot:
    """Read one run, and let its own best version look at the dataset's first `num` samples.

    Raises:
        ValueError: If the run cannot be read.
    """
    problems: list[str] = []
    pasts = _pasts([run], problems)
    if not pasts:
        raise ValueError(placeless("; ".join(problems), store))
    reference, entries = (pasts[0].summary or {}).get("best"), []
    if reference:
        try:
            entries = _readable([store.resolve(reference)], problems)
        except ValueError as error:
            problems.append(str(error))
    loaded = LoadedModels()
    samples, lookers = _lookers(store, entries, num, torch.device(device), problems, lambda _: None, loaded)
    models = share_models(store, [one.entry.reference for one in lookers], Options(num=num), loaded=loaded)
    part = DatasetResults(str(pasts[0].config["dataset"]), samples, _recipes(pasts), lookers, models)
    told = tuple(placeless(problem, store) for problem in problems)
    again = shlex.join(["python", "-m", "cvx", "report", f"--run={run.name}"])
    return StoreSnapshot(store, (part,), told, num, torch.device(device), defaults or {}, again=again, loaded=loaded)


def _pasts(runs: Sequence[Run], problems: list[str]) -> list[RunRecord]:
    pasts = []
    for run in runs:
        try:
            facts, summary, rows = run.config, run.summary, run.rows()
            config = dict(facts["config"])
            pasts.append(
                RunRecord(run, {"dataset": config["dataset"], "model": config["model"], **config}, facts, summary, rows)
            )
        except (ValueError, KeyError, TypeError, OSError) as error:
            problems.append(f"run {run.name} cannot be read: {error}")
            continue
        if summary is None:
            problems.append(f"run {run.name} is not done: its curves are shown, it has no final numbers")
    return pasts


def _readable(entries: Sequence[ModelEntry], problems: list[str]) -> list[tuple[ModelEntry, Card]]:
    found = []
    for entry in entries:
        if entry.card is None:
            problems.append(f"model {entry.reference} cannot be read: {entry.error}")
        else:
            found.append((entry, entry.card))
    return found


def _lookers(
    store: Store,
    entries: Sequence[tuple[ModelEntry, Card]],
    num: int,
    device: torch.device,
    problems: list[str],
    tell: Callable[[str], None],
    loaded: LoadedModels,
) -> tuple[Samples | None, tuple[ExplainedModel, ...]]:
    """Let the models look that share the samples of the newest of them; the others are named."""
    samples: Samples | None = None
    lookers = []
    for entry, card in sorted(entries, key=lambda pair: pair[1].created, reverse=True):
        try:
            own = store.samples_of(card)
            samples = samples or own
            if own.identity != samples.identity:
                problems.append(
                    f"model {entry.reference} was trained on another state of {card.dataset}; it has no maps here"
                )
                continue
            tell(f"maps of {entry.reference}")
            lookers.append(_looker(entry, card, samples, num, device, loaded))
        except (ValueError, OSError) as error:
            problems.append(f"model {entry.reference} cannot look at the samples: {error}")
    return samples, tuple(sorted(lookers, key=lambda one: one.entry.name))


def _looker(
    entry: ModelEntry, card: Card, samples: Samples, num: int, device: torch.device, loaded: LoadedModels
) -> ExplainedModel:
    few, classifier = samples.split.head(num), loaded.load(entry, card, device)
    images, labels = np.asarray(few.images), np.array(few.labels)
    started = time.perf_counter()
    view = explain_images(entry.reference, classifier, card, images, "label", labels, samples.classes)
    return ExplainedModel(entry, card, view, (time.perf_counter() - started) / len(view))


def _recipes(pasts: Sequence[RunRecord]) -> tuple[Recipe, ...]:
    groups: dict[str, list[RunRecord]] = {}
    for past in pasts:
        key = json.dumps({name: value for name, value in past.config.items() if name != "seed"}, sort_keys=True)
        groups.setdefault(key, []).append(past)
    found = []
    for group in groups.values():
        config = group[0].config
        model = str(config["model"])
        varied = _varied(config, [one[0].config for one in groups.values() if one[0].config["model"] == model])
        label = " · ".join([model, *(f"{name} {number(value)}" for name, value in varied.items())])
        found.append(
            Recipe(str(config["dataset"]), model, label, varied, tuple(sorted(group, key=lambda one: one.seed)))
        )
    return tuple(sorted(found, key=lambda one: one.label))


def _varied(config: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [name for name in config if name != "seed"]
    return {name: config[name] for name in names if any(other.get(name) != config[name] for other in others)}
