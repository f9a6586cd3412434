"""Pull models, samples and records from W&B into a store: only what is new, each checked by its digest."""

import base64
import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from cvx.files import read_json, write_json
from cvx.store import Store, checkpoint
from cvx.store.layout import WORK
from cvx.store.store import NAME
from cvx.tracking.account import Target, api, as_oserror, one_line
from cvx.tracking.artifact_names import records_name
from cvx.tracking.artifacts import MODEL, RECORD_FILES, RECORDS, SAMPLE_FILES, SAMPLES
from cvx.tracking.command_run import tell_use
from cvx.tracking.run_link import FILE, RunLink


@dataclasses.dataclass(frozen=True)
class Pulled:
    """What became of one artifact."""

    name: str
    """W&B's name and version of it."""
    kind: str
    status: str
    """new, known, or refused."""
    where: str = ""
    """What it is called in the store."""
    error: str = ""


Progress = Callable[[int, int, Pulled], None]
"""Hears how many artifacts are through, of how many, and what became of the last one."""


def pull(
    root: Path | str, where: Target, alias: str = "best", progress: Progress | None = None, used_by: str = ""
) -> list[Pulled]:
    """Bring every model of a project, with its samples and its runs' records, into a store.

    Args:
        root: The store's folder.
        alias: Which version of each model: `best`, `latest`, `v3`, or `all`.
        used_by: What the models are fetched for; a run of this job type then uses those that none of its kind has used
            yet. Nothing: files are fetched, and W&B is told nothing.

    Raises:
        OSError: If W&B does not answer; what came before is kept.
        ValueError: If there is no such project.
    """
    store, results = Store(root), list[Pulled]()
    with as_oserror("W&B does not answer, but what was pulled before is kept", also=()):
        wanted = _wanted(where, alias)
        store.root.mkdir(parents=True, exist_ok=True)
        with FileLock(store.root / f"{WORK}.lock"):  # a second one waits, and then finds what the first has brought
            for i, artifact in enumerate(wanted, start=1):
                results.append(_take(store, artifact))
                if progress is not None:
                    progress(i, len(wanted), results[-1])
            shutil.rmtree(store.root / WORK, ignore_errors=True)
    if used_by:
        taken = zip(wanted, results, strict=True)
        tell_use(
            used_by,
            where,
            [artifact for artifact, pulled in taken if artifact.type == MODEL and pulled.status != "refused"],
        )
    return results


def _wanted(where: Target, alias: str) -> list[Any]:
    """List the artifacts to fetch: samples first, as a model without them cannot be looked at."""
    interface = api()
    project = f"{where.entity or interface.default_entity}/{where.project}"
    try:
        types = {kind.name: kind for kind in interface.artifact_types(project)}
    except ValueError as error:
        raise ValueError(f"W&B has no project {project}: {one_line(error)}") from None
    models = [version for name in _names(types, MODEL) for version in _versions(interface, project, MODEL, name, alias)]
    runs = {str(version.metadata.get("run", "")) for version in models}
    samples = [
        version for name in _names(types, SAMPLES) for version in _versions(interface, project, SAMPLES, name, "all")
    ]
    kept = {records_name(run) for run in runs}
    records = [
        version
        for name in _names(types, RECORDS)
        if name in kept
        for version in _versions(interface, project, RECORDS, name, "latest")
    ]
    if not models:
        raise ValueError(f"{project} on W&B has no model with the alias {alias!r}; --alias=all takes every version")
    return [*samples, *models, *records]


def _names(types: dict[str, Any], kind: str) -> list[str]:
    return sorted(collection.name for collection in types[kind].collections()) if kind in types else []


def _versions(interface: Any, project: str, kind: str, name: str, alias: str) -> Iterator[Any]:
    """Give the versions of a name that the alias means, oldest first, so that local numbers keep their order."""
    for version in reversed(list(interface.artifacts(kind, f"{project}/{name}"))):
        if alias in ("all", version.version, *version.aliases):
            yield version


def _take(store: Store, artifact: Any) -> Pulled:
    """Bring one artifact into the store; what cannot be trusted is refused, and stops nothing else."""
    kind, name = artifact.type, artifact.qualified_name
    try:
        _check_names(artifact, kind)
        if known := _known(store, artifact, kind):
            return Pulled(name, kind, "known", known)
        folder = _download(store, artifact)
        taken = _TAKERS[kind](store, folder, artifact)
    except (ValueError, KeyError, OSError) as error:
        return Pulled(name, kind, "refused", error=one_line(error))
    shutil.rmtree(folder, ignore_errors=True)
    return taken


def _check_names(artifact: Any, kind: str) -> None:
    """Refuse files that would leave the artifact's folder, and those that cvx does not write.

    Raises:
        ValueError: If there is one; nothing of the artifact is downloaded then.
    """
    for name in artifact.manifest.entries:
        path = PurePosixPath(str(name))
        if path.is_absolute() or ".." in path.parts or "\\" in str(name) or ":" in str(name):
            raise ValueError(f"the artifact holds {str(name)!r}, which would leave its folder")
        if not _EXPECTED[kind](path):
            raise ValueError(f"the artifact holds {str(name)!r}, which cvx does not write")


def _is_frame(path: PurePosixPath) -> bool:
    return len(path.parts) == 2 and path.parts[0] in ("film", "embeddings") and path.suffix == ".npz"


_EXPECTED: dict[str, Callable[[PurePosixPath], bool]] = {
    MODEL: lambda path: str(path) in (checkpoint.WEIGHTS, checkpoint.CARD),
    SAMPLES: lambda path: str(path) in SAMPLE_FILES,
    RECORDS: lambda path: str(path) in RECORD_FILES or _is_frame(path),
}


def _known(store: Store, artifact: Any, kind: str) -> str:
    """Return what the artifact is called in the store, if it is there, without fetching it."""
    facts = artifact.metadata
    if kind == MODEL:
        return _known_model(store, facts)
    if kind == SAMPLES:
        try:
            return str(store.samples(facts["dataset"], facts["fingerprint"]).folder.relative_to(store.root))
        except (ValueError, KeyError):
            return ""
    folder = store.run(str(facts.get("run", ""))).folder
    recorded = artifact.manifest.entries.get("metrics.jsonl")
    same = recorded is not None and _md5(folder / "metrics.jsonl") == recorded.digest
    return folder.name if same and (folder / "summary.json").is_file() else ""


def _known_model(store: Store, facts: dict[str, Any]) -> str:
    wanted = tuple(facts.get(name) for name in ("run", "role", "sha256"))
    name = str(facts.get("name", ""))
    for known_name in dict.fromkeys((name, store.name_for(name, str(facts.get("source") or "")))):
        for entry in store.versions(known_name):
            if entry.card and (entry.card.run, entry.card.role, entry.card.sha256) == wanted:
                return entry.reference
    return ""


def _md5(path: Path) -> str:
    if not path.is_file():
        return ""
    return base64.b64encode(hashlib.md5(path.read_bytes(), usedforsecurity=False).digest()).decode()


def _download(store: Store, artifact: Any) -> Path:
    """Fetch an artifact's files and compare each with its digest."""
    folder = store.root / WORK / hashlib.sha256(artifact.digest.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    expected = {folder / str(name) for name in artifact.manifest.entries}
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in expected]:
        path.unlink()  # of a pull that was killed as it put the folder in its place
    artifact.download(root=str(folder), skip_cache=True)
    artifact.verify(root=str(folder))
    return folder


def _take_model(store: Store, folder: Path, artifact: Any) -> Pulled:
    entry = store.adopt_model(folder, origin=artifact.qualified_name)
    return Pulled(artifact.qualified_name, MODEL, "new", entry.reference)


def _take_samples(store: Store, folder: Path, artifact: Any) -> Pulled:
    samples = store.adopt_samples(folder)
    return Pulled(artifact.qualified_name, SAMPLES, "new", str(samples.folder.relative_to(store.root)))


def _take_records(store: Store, folder: Path, artifact: Any) -> Pulled:
    """Put a run's records where runs lie; one of another origin and the same name keeps its place."""
    name = str(artifact.metadata["run"])
    if not NAME.fullmatch(name):
        raise ValueError(f"the artifact is of a run called {name!r}, which is no name of a run")
    read_json(folder / "config.json")
    there = store.run(name).folder
    if there.exists():
        same = read_json(there / "config.json") == read_json(folder / "config.json")
        name = name if same else f"{name}-{artifact.entity}-{artifact.project}"
        if same or store.run(name).folder.exists():
            return Pulled(artifact.qualified_name, RECORDS, "known", name)
    logged_by = artifact.logged_by()
    link = RunLink(artifact.entity, artifact.project, logged_by.id if logged_by else name, complete=True)
    write_json(folder / FILE, {**dataclasses.asdict(link), "pulled": artifact.qualified_name})
    store.runs_root.mkdir(parents=True, exist_ok=True)
    folder.rename(store.run(name).folder)
    return Pulled(artifact.qualified_name, RECORDS, "new", name)


_TAKERS: dict[str, Callable[[Store, Path, Any], Pulled]] = {
    MODEL: _take_model,
    SAMPLES: _take_samples,
    RECORDS: _take_records,
}
