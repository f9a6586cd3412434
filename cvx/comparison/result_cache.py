"""Keep results of comparisons in the store, and find them again."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cvx.comparison.request import Options, ResolvedModel
from cvx.files import whole_file
from cvx.store import Store
from cvx.store.npz import read_frame

VERSION = 3
"""Of the measures and of the maps under them: a higher number makes every kept result stale. Before 3, maps of single
images were wrong for models that turn tokens into feature maps."""


def load_cached(store: Store, kind: str, facts: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """Return what is kept under these facts, if anything readable is."""
    try:
        kept = read_frame(_path(store, kind, facts))
    except ValueError:
        return None
    return {name: one for name, one in kept.items() if name != "facts"}


def save_cached(store: Store, kind: str, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Keep arrays under these facts, which are written beside them; in a store that cannot be written, do not."""
    content: dict[str, Any] = {**arrays, "facts": np.array(json.dumps(facts, sort_keys=True))}
    try:
        with whole_file(_path(store, kind, facts)) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **content)
    except OSError:
        return


def _path(store: Store, kind: str, facts: Mapping[str, Any]) -> Path:
    told = json.dumps({"version": VERSION, **facts}, sort_keys=True)
    return store.measures_root / kind / f"{hashlib.sha256(told.encode()).hexdigest()[:20]}.npz"


def cache_key(asked: ResolvedModel, options: Options) -> dict[str, Any]:
    """Name what decides one model's results; as many images as there are, if more were asked for."""
    told = asdict(dataclasses.replace(options, num=len(asked.split)))
    del told["samples"]  # how the images were named: which they are, the fingerprint says
    return {"model": asked.card.sha256, "images": asked.images.fingerprint, **told}
