"""Models, samples and records as W&B artifacts: names, aliases and lineage."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cvx.checkpoint import CARD, WEIGHTS, Card, read_card
from cvx.data import slug
from cvx.files import read_json
from cvx.store import Samples, Store
from cvx.tracking.account import PATIENT, Patience, api, client, one_line
from cvx.tracking.connection import Link

MODEL, SAMPLES, RECORDS = "model", "dataset", "records"
"""Artifact types."""
BYTES_PER_S = 500_000
"""Slowest upload that is waited for."""
SAMPLE_FILES = ("images.npy", "labels.npy", "ids.npy", "masks.npy", CARD)
RECORD_FILES = ("config.json", "metrics.jsonl", "summary.json")


def samples_name(dataset: str) -> str:
    """Return the artifact's name of a dataset's fixed test images."""
    return f"{slug(dataset)}-samples"


def records_name(run: str) -> str:
    """Return the artifact's name of a run's records."""
    return f"{run}-records"


def use_samples(run: Any, samples: Samples, link: Link, patience: Patience = PATIENT) -> None:
    """Say that the run looks at these samples; they are sent where W&B has not got them."""
    content = read_json(samples.folder / CARD)
    files = {name: samples.folder / name for name in SAMPLE_FILES if (samples.folder / name).is_file()}
    artifact = _artifact(samples_name(samples.dataset), SAMPLES, content, files)
    _settle("samples", link, files, lambda: run.use_artifact(artifact), patience)


def log_model(run: Any, link: Link, role: str, store: Store, reference: str, patience: Patience = PATIENT) -> None:
    """Send a stored model; it becomes `best` if no version of its name has a better val/acc1."""
    if role in link.artifacts:  # sending it once more would make an old run's model `latest` again
        return
    folder = store.resolve(reference).folder
    card = read_card(folder)
    files = {name: folder / name for name in (WEIGHTS, CARD)}
    artifact = _artifact(card.name, MODEL, dataclasses.asdict(card), files)
    aliases = ["best"] if _is_best(link, card, patience) else []
    _settle(role, link, files, lambda: run.log_artifact(artifact, aliases=aliases), patience)


def log_records(run: Any, link: Link, folder: Path, patience: Patience = PATIENT) -> None:
    """Send what the run recorded, so that its plots can be drawn again wherever it is pulled to."""
    paths = [folder / name for name in RECORD_FILES] + sorted(folder.glob("*/*.npz"))
    files = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
    artifact = _artifact(records_name(folder.name), RECORDS, {"run": folder.name}, files)
    _settle("records", link, files, lambda: run.log_artifact(artifact), patience)


def _artifact(name: str, type: str, metadata: Mapping[str, Any], files: Mapping[str, Path]) -> Any:
    plain = json.loads(json.dumps(dict(metadata)))
    artifact = client().Artifact(name, type=type, metadata=plain)
    for inside, path in files.items():
        artifact.add_file(str(path), name=inside, policy="immutable", skip_cache=True)
    return artifact


def _settle(role: str, link: Link, files: Mapping[str, Path], send: Callable[[], Any], patience: Patience) -> None:
    """Send an artifact, wait until it is there, and note its version.

    Raises:
        OSError: If it does not arrive in the time that its size allows.
    """
    size = sum(path.stat().st_size for path in files.values())
    wandb = client()
    try:
        logged = send().wait(timeout=math.ceil(patience.finish + size / BYTES_PER_S))
        link.artifacts[role] = logged.qualified_name
    except (wandb.Error, TimeoutError, ValueError) as error:
        raise OSError(f"the artifact of {role} did not arrive: {one_line(error)}") from None


def _is_best(link: Link, card: Card, patience: Patience) -> bool:
    """Compare with W&B's present best as the store does: the last weights of a run never outrank its best."""
    name, wandb = f"{link.entity}/{link.project}/{card.name}:best", client()
    interface = api(patience)
    try:
        if not interface.artifact_exists(name, type=MODEL):
            return True
        known = interface.artifact(name, type=MODEL).metadata
    except (wandb.Error, ValueError) as error:
        raise OSError(f"W&B does not say which {card.name} is best: {one_line(error)}") from None
    theirs = (known.get("role") != "last", float((known.get("metrics") or {}).get("val/acc1") or -1.0))
    return (card.role != "last", float(card.metrics.get("val/acc1", -1.0))) >= theirs
