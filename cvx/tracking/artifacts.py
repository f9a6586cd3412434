"""Send models, samples, records and code to W&B as artifacts, and link them to the runs that read or make them."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cvx
from cvx.files import read_json
from cvx.store import ModelEntry, Store
from cvx.store.checkpoint import CARD, WEIGHTS, Card, read_card
from cvx.store.store import Samples, free_name
from cvx.tracking.account import DEFAULT_TIMEOUTS, Timeouts, api, as_oserror, client
from cvx.tracking.artifact_names import VERSION, records_name, safe, samples_name
from cvx.tracking.run_link import RunLink, read_link
from cvx.tracking.wait_for_upload import see_through

MODEL, SAMPLES, RECORDS = "model", "dataset", "records"
"""Artifact types."""
SAMPLE_FILES = ("images.npy", "labels.npy", "ids.npy", "masks.npy", CARD)
RECORD_FILES = ("config.json", "metrics.jsonl", "summary.json")
SOURCE = (".py", ".html", ".css", ".js")
"""What cvx's own code is made of."""


def use_samples(run: Any, samples: Samples, link: RunLink, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
    """Say that the run looks at these samples; they are sent where W&B has not got them."""
    content = read_json(samples.folder / CARD)
    files = {name: samples.folder / name for name in SAMPLE_FILES if (samples.folder / name).is_file()}
    artifact = _artifact(samples_name(samples.dataset), SAMPLES, content, files)
    _settle("samples", link, run, lambda: run.use_artifact(artifact), timeouts)


def log_model(
    run: Any, link: RunLink, role: str, store: Store, reference: str, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> None:
    """Send a stored model as a version of its name; which version is `best` is decided when all are there."""
    if role in link.artifacts:  # sending it once more would make an old run's model `latest` again
        return
    folder = store.resolve(reference).folder
    artifact = _model(folder, _name_there(f"{link.entity}/{link.project}", read_card(folder), timeouts))
    _settle(role, link, run, lambda: run.log_artifact(artifact), timeouts)


def log_records(run: Any, link: RunLink, folder: Path, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
    """Send what the run recorded, so that its plots can be drawn again wherever it is pulled to."""
    paths = [folder / name for name in RECORD_FILES] + sorted(folder.glob("*/*.npz"))
    files = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
    artifact = _artifact(records_name(folder.name), RECORDS, {"run": folder.name}, files)
    _settle("records", link, run, lambda: run.log_artifact(artifact), timeouts)


def log_code(run: Any) -> None:
    """Send cvx's own source, once for all runs made by the same."""
    run.log_code(str(Path(cvx.__file__).parent), name="cvx-source", include_fn=lambda path: path.endswith(SOURCE))


def use_model(run: Any, store: Store, entry: ModelEntry) -> str:
    """Say that a run reads a stored model; return W&B's name of the version, or nothing if W&B has not got it.

    A pulled model remembers where it is from, a published one is named by its run's folder. One that was imported
    belongs to no run that could be published: it is sent here.

    Raises:
        OSError: If W&B does not take it.
    """
    with as_oserror(f"W&B does not take note of {entry.reference}"):
        if known := artifact_of(store, entry):
            run.use_artifact(known, type=MODEL)
            return known
        if entry.card is None or entry.card.role != "imported":
            return ""
        artifact = _model(entry.folder)
        return str(see_through(run, lambda: run.use_artifact(artifact).wait()).qualified_name)


def artifact_of(store: Store, entry: ModelEntry) -> str:
    """Return what a stored model is called on W&B, `entity/project/name:v3`, or nothing if it is not there."""
    if entry.card is None:
        return ""
    known = entry.card.origin
    if not known and entry.card.run and (link := read_link(store.run(entry.card.run).folder)):
        known = link.artifacts.get(entry.card.role, "")
    return known if VERSION.fullmatch(known) else ""


def _name_there(project: str, card: Card, timeouts: Timeouts) -> str:
    """Return a model's name in a project: its own, or a longer one where models of another source have that there."""

    def sources(name: str) -> set[str]:
        try:
            with as_oserror("W&B does not answer"):
                versions = list(api(timeouts).artifacts(MODEL, f"{project}/{safe(name)}"))
        except OSError:  # there is no such name yet, or W&B is away, which the upload tells
            return set()
        return {str((version.metadata or {}).get("source") or "") for version in versions}

    return free_name(card.name, card.source, sources)


def _model(folder: Path, name: str = "") -> Any:
    card: Card = read_card(folder)
    files = {name: folder / name for name in (WEIGHTS, CARD)}
    return _artifact(safe(name or card.name), MODEL, dataclasses.asdict(card), files)


def _artifact(name: str, kind: str, metadata: Mapping[str, Any], files: Mapping[str, Path]) -> Any:
    plain = json.loads(json.dumps(dict(metadata)))
    artifact = client().Artifact(name, type=kind, metadata=plain)
    for inside, path in files.items():
        artifact.add_file(str(path), name=inside, policy="immutable", skip_cache=True)
    return artifact


def _settle(role: str, link: RunLink, run: Any, send: Callable[[], Any], timeouts: Timeouts) -> None:
    """Send an artifact, wait until it is there, and note its version.

    Raises:
        OSError: If it does not arrive.
    """
    with as_oserror(f"W&B: the artifact of {role} did not arrive"):
        link.artifacts[role] = see_through(run, lambda: send().wait(), timeouts).qualified_name
