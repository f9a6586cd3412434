"""Agreement of the maps of every pair of models of one dataset, with ceiling and floor."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from cvx.comparison.agreement_result import FLOORS, Agreement
from cvx.comparison.request import HERE, Models, Options, ResolvedModel, Runtime, resolve_models
from cvx.comparison.result_cache import cache_key, load_cached, save_cached
from cvx.maps.explanation import Explanation, ImageExplainer, places
from cvx.metrics.agreement import MEASURES, compare, map_features
from cvx.metrics.control_maps import random_maps, sobel
from cvx.metrics.embedding import cka
from cvx.names import slug
from cvx.progress import ticking
from cvx.store import Store
from cvx.store.checkpoint import Card


def agreement(
    store: Store,
    models: Models,
    options: Options | None = None,
    runtime: Runtime = HERE,
    names: Sequence[str] | None = None,
) -> Agreement:
    """Compare the maps of every pair of models, image by image.

    Each pair's numbers are kept in the store's folder `measures` by the weights' digests, the images and the
    options, so what was computed once is only read again. Memory: one chunk of images' maps of all models, their
    weights and folded copies.

    Args:
        names: Some of MEASURES; None takes all.

    Raises:
        ValueError: If fewer than two different models are named, they did not get the same images, or a measure is
            unknown.
    """
    options, chosen = options or Options(), tuple(names or MEASURES)
    if unknown := [name for name in chosen if name not in MEASURES]:
        raise ValueError(f"unknown measure {unknown[0]!r}; known: {', '.join(MEASURES)}")
    asked = resolve_models(store, models, options, runtime.data_root)
    check_comparable(asked)
    families = [_siblings(store, one) for one in asked]
    found = PairwiseMaps(store, asked, families, options, torch.device(runtime.device)).compute(runtime.show_progress)
    split, classes = asked[0].split, asked[0].classes
    logits = [found[one.card.sha256,]["logits"] for one in asked]
    return Agreement(
        dataset=asked[0].images.dataset,
        options=replace(options, num=len(split)),
        references=tuple(one.reference for one in asked),
        columns=columns_of(asked),
        names=chosen,
        ids=np.array(split.ids),
        labels=np.array(split.labels),
        preds=np.stack([_preds(rows, one.card, classes) for rows, one in zip(logits, asked, strict=True)]),
        cka=np.array([[cka(rows, others) for others in logits] for rows in logits]),
        classes=classes,
        values={name: _square(found, asked, name) for name in chosen},
        ceilings={name: _ceilings(found, asked, families, name) for name in chosen},
        siblings=tuple(tuple(one.reference for one in family) for family in families),
        floors={(name, kind): _floors(found, asked, name, kind) for name in chosen for kind in FLOORS},
    )


def check_comparable(asked: Sequence[ResolvedModel]) -> None:
    """Refuse models whose maps cannot be held against each other pixel by pixel.

    Raises:
        ValueError: If there is only one model, or they are not asked about the same images.
    """
    if len({one.card.sha256 for one in asked}) < 2:
        raise ValueError(
            f"agreement is between models, and {asked[0].reference} is only one; name a second model of"
            f" {asked[0].card.dataset}, or another version of it (`{asked[0].entry.name}:latest`)"
        )
    groups: dict[tuple[Any, ...], list[str]] = {}
    for one in asked:
        key = (one.images.identity, one.split.images.shape[1:], np.asarray(one.split.ids).tobytes())
        groups.setdefault(key, []).append(one.reference)
    if len(groups) == 1:
        return
    names = {one.reference: f"{one.images.dataset} at {one.split.images.shape[1]} px" for one in asked}
    told = "; ".join(f"{names[group[0]]}: {', '.join(group)}" for group in groups.values())
    able = [" ".join(group) for group in groups.values() if len(group) > 1]
    hint = f"can be compared: {' | '.join(able)}" if able else "name two or more models of one dataset"
    raise ValueError(
        f"these models did not get the same images, so there is no pixel to compare ({told}); {hint}."
        " Ask all of them about the same with --samples=NAME; or compare what each map is like by itself:"
        " --measures=properties"
    )


def columns_of(asked: Sequence[ResolvedModel]) -> tuple[str, ...]:
    """Shorten references for tables: no dataset where all share it, no version where no name occurs twice."""
    one_dataset = len({one.card.dataset for one in asked}) == 1
    names = [
        one.entry.name.removeprefix(f"{slug(one.card.dataset)}-") if one_dataset else one.entry.name for one in asked
    ]
    return tuple(
        f"{name}:v{one.entry.version}" if names.count(name) > 1 else name
        for name, one in zip(names, asked, strict=True)
    )


def _siblings(store: Store, one: ResolvedModel) -> list[ResolvedModel]:
    """Find the same recipe trained from other seeds, the newest version of each seed, to be asked about the same."""
    by_seed: dict[int, ResolvedModel] = {}
    for entry in store.versions(one.entry.name):
        if entry.card and _recipe(entry.card) == _recipe(one.card) and entry.card.seed != one.card.seed:
            by_seed[entry.card.seed] = replace(one, entry=entry, card=entry.card)
    return list(by_seed.values())


def _recipe(card: Card) -> tuple[Any, ...]:
    config = {key: value for key, value in card.config.items() if key != "seed"}
    return card.model, card.build, card.samples, card.role, config


Found = dict[tuple[str, ...], dict[str, np.ndarray]]
"""By `(model,)`: its logits; by `(model, model)` and `(model, floor)`: agreement by measure. Digests name models."""


class PairwiseMaps:
    """Computes what is not kept yet, chunk by chunk of images, all models on one chunk."""

    def __init__(
        self,
        store: Store,
        asked: Sequence[ResolvedModel],
        families: Sequence[Sequence[ResolvedModel]],
        options: Options,
        device: torch.device,
    ) -> None:
        self._store, self._options, self._device = store, options, device
        self._models = {one.card.sha256: one for one in [*asked, *(one for family in families for one in family)]}
        digests = [one.card.sha256 for one in asked]
        keys = {(digest,) for digest in digests} | {(digest, kind) for digest in digests for kind in FLOORS}
        keys |= {_pair(a, b) for a in digests for b in digests}
        keys |= {
            _pair(one.card.sha256, sibling.card.sha256)
            for one, family in zip(asked, families, strict=True)
            for sibling in family
        }
        self._found: Found = {key: kept for key in keys if (kept := load_cached(store, "pairs", self._facts(key)))}
        self._missing = sorted(keys - set(self._found))

    def compute(self, show_progress: bool) -> Found:
        """Return all that was asked for."""
        needed = [digest for digest in self._models if any(digest in key for key in self._missing)]
        if not needed:
            return self._found
        first = self._models[needed[0]]
        parts: dict[tuple[str, ...], list[dict[str, np.ndarray]]] = {key: [] for key in self._missing}
        chunks = list(first.chunks())
        with ticking(len(chunks) * (len(needed) + 1), show_progress) as ticks, contextlib.ExitStack() as stack:
            explainers = {
                digest: stack.enter_context(self._models[digest].explainer(self._device, self._options))
                for digest in needed
            }
            for rows in chunks:
                views = {}
                for digest, explain in explainers.items():
                    ticks.tell(f"maps of {self._models[digest].reference}")
                    views[digest] = view_of(self._models[digest], explain, rows)
                    ticks.tick()
                ticks.tell("comparing")
                for key, one in self._compared(views, np.asarray(first.split.ids[rows])):
                    parts[key].append(one)
                ticks.tick()
        for key, found in parts.items():
            self._found[key] = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
            save_cached(self._store, "pairs", self._facts(key), self._found[key])
        return self._found

    def _compared(
        self, views: Mapping[str, Explanation], ids: Int64[np.ndarray, "b"]
    ) -> Iterator[tuple[tuple[str, ...], dict[str, np.ndarray]]]:
        """Give every missing entry of one chunk."""
        prepared = {digest: map_features(view.attribution) for digest, view in views.items()}
        some = next(iter(views.values()))
        edges = map_features(sobel(some.images)[:, None].repeat(some.attribution.shape[1], axis=1))
        noise = map_features(random_maps(ids, some.attribution.shape[1:], self._options.seed))
        for key in self._missing:
            if len(key) == 1:
                yield key, {"logits": views[key[0]].logits}
                continue
            own, partner = prepared[key[0]], key[1]
            if partner == "other_image":
                yield key, compare(own, map_features(next_image(views[key[0]].attribution)))
            else:
                other = {"sobel": edges, "random": noise}.get(partner)
                yield key, compare(own, prepared[partner] if other is None else other)

    def _facts(self, key: tuple[str, ...]) -> dict[str, Any]:
        return {**cache_key(self._models[key[0]], self._options), "model": list(key)}


def view_of(asked: ResolvedModel, explain: ImageExplainer, rows: slice) -> Explanation:
    """Show a model some of its images."""
    part = asked.split[rows]
    return explain(np.asarray(part.images), np.array(part.labels))


def next_image(attribution: Float32[np.ndarray, "n c h w"]) -> Float32[np.ndarray, "n c h w"]:
    """Give every image the map of the next one; a single image has none, so its map is zero."""
    return np.roll(attribution, -1, axis=0) if len(attribution) > 1 else np.zeros_like(attribution)


def _pair(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first <= second else (second, first)


def _square(found: Found, asked: Sequence[ResolvedModel], name: str) -> Float64[np.ndarray, "m m n"]:
    digests = [one.card.sha256 for one in asked]
    return np.stack([np.stack([found[_pair(a, b)][name] for b in digests]) for a in digests])


def _floors(found: Found, asked: Sequence[ResolvedModel], name: str, kind: str) -> Float64[np.ndarray, "m n"]:
    return np.stack([found[one.card.sha256, kind][name] for one in asked])


def _ceilings(
    found: Found, asked: Sequence[ResolvedModel], families: Sequence[Sequence[ResolvedModel]], name: str
) -> Float64[np.ndarray, "m n"]:
    rows = []
    for one, family in zip(asked, families, strict=True):
        values = [found[_pair(one.card.sha256, sibling.card.sha256)][name] for sibling in family]
        rows.append(np.mean(values, axis=0) if values else np.full(len(one.split), np.nan))
    return np.stack(rows)


def _preds(logits: Float32[np.ndarray, "n k"], card: Card, classes: tuple[str, ...]) -> Int64[np.ndarray, "n"]:
    """Return the predictions in the images' own numbering of classes."""
    preds = logits.argmax(axis=1).astype(np.int64)
    return places(classes, card.classes)[preds]
