"""What the stand-in keeps, as the GraphQL objects that the client asks for."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from wandb_server.graphql import QueryError
from wandb_server.state import Collection, Project, Run, State, Sweep, Version, View

Object = dict[str, Any]
HISTORY, EVENTS = "wandb-history.jsonl", "wandb-events.jsonl"


def page(nodes: Iterable[Object], typename: str = "Connection", **more: Any) -> Object:
    """Give all nodes as the only page of a connection."""
    edges = [{"node": node, "cursor": str(i), "version": node.get("_version")} for i, node in enumerate(nodes)]
    info = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    return {"__typename": typename, "edges": edges, "pageInfo": info, "totalCount": len(edges), **more}


def user(entity: str) -> Object:
    """Describe the only user there is."""
    teams = page([{"name": entity}])
    return {
        "__typename": "User",
        "id": "VXNlcjox",
        "name": entity,
        "username": entity,
        "email": f"{entity}@example.invalid",
        "admin": False,
        "flags": "{}",
        "entity": entity,
        "deletedAt": None,
        "apiKeys": page([]),
        "teams": teams,
    }


def entity_object(name: str) -> Object:
    """Describe an entity; it belongs to no organization."""
    return {
        "__typename": "Entity",
        "id": f"entity-{name}",
        "name": name,
        "organization": None,
        "xxhashDigestsEnabled": False,
    }


class Objects:
    """Makes the objects; `address` is where stored bytes are fetched from."""

    def __init__(self, state: State, address: Callable[[str], str]):
        self.state = state
        self.address = address

    def project(self, project: Project | None) -> Object | None:
        """Describe a project with all that hangs on it."""
        if project is None:
            return None

        def run(name: str, missingOk: bool = False) -> Object | None:  # noqa: N803 - the API's name
            return self.run(project.runs.get(name))

        def runs(filters: str | None = None, order: str | None = None, after: Any = None, first: int = 50) -> Object:
            chosen = [one for one in project.runs.values() if _matches(one, json.loads(filters or "{}"))]
            place, downward = (order or "+created_at").lstrip("+-"), (order or "").startswith("-")
            known = [(_value(one, place), one) for one in chosen]
            known.sort(key=lambda pair: (pair[0] is not None, pair[0]) if pair[0] is not None else (False, 0))
            chosen = [one for _, one in (reversed(known) if downward else known)]
            return page(self.run(one) for one in chosen)

        return {
            "__typename": "Project",
            "id": project.id,
            "internalId": str(project.number),
            "name": project.name,
            "entityName": project.entity,
            "entity": entity_object(project.entity),
            "createdAt": project.created_at,
            "description": None,
            "access": "PRIVATE",
            "views": None,
            "isBenchmark": False,
            "readOnly": False,
            "user": user(project.entity),
            "run": run,
            "bucket": run,
            "runs": runs,
            "runCount": lambda filters=None: len(runs(filters)["edges"]),
            "artifactType": lambda name: self.artifact_type(project, name),
            "artifactTypes": lambda **_: page(
                self.artifact_type(project, name) for name in dict.fromkeys(kind for kind, _ in project.collections)
            ),
            "artifactCollection": lambda name: self.collection(project.collection(name)),
            "artifactCollectionMembership": lambda name: self.named_membership(project, name),
            "artifact": lambda name: (self.named_membership(project, name) or {}).get("artifact"),
            "sweep": lambda sweepName: self.sweep(project.sweeps.get(sweepName)),  # noqa: N803
            "sweeps": lambda **_: page(self.sweep(one) for one in project.sweeps.values()),
            "totalSweeps": len(project.sweeps),
            "allViews": lambda viewType=None, viewName=None, **_: page(  # noqa: N803
                self.view(one)
                for one in project.views.values()
                if viewType in (None, one.fields.get("type")) and viewName in (None, one.fields.get("name"))
            ),
        }

    # runs

    def run(self, run: Run | None) -> Object | None:
        """Describe a run."""
        if run is None:
            return None
        history = run.stream(HISTORY)
        names = run.files
        return {
            "__typename": "Run",
            "id": run.id,
            "name": run.name,
            "projectId": run.project.number,
            "project": lambda: self.project(run.project),
            "displayName": run.fields.get("displayName") or run.name,
            "description": run.fields.get("description"),
            "notes": run.fields.get("notes"),
            "group": run.fields.get("groupName"),
            "jobType": run.fields.get("jobType"),
            "commit": run.fields.get("commit"),
            "host": run.fields.get("host"),
            "tags": run.tags,
            "config": run.fields.get("config") or "{}",
            "wandbConfig": lambda keys=(): json.dumps(
                {
                    key: json.loads(run.fields.get("config") or "{}").get("_wandb", {}).get("value", {}).get(key)
                    for key in keys
                }
            ),
            "summaryMetrics": run.fields.get("summaryMetrics") or "{}",
            "systemMetrics": run.stream(EVENTS)[-1] if run.stream(EVENTS) else "{}",
            "sweepName": run.sweep.name if run.sweep else None,
            "state": run.state,
            "readOnly": False,
            "createdAt": run.created_at,
            "heartbeatAt": run.heartbeat_at,
            "updatedAt": run.heartbeat_at,
            "exitcode": run.exit_code,
            "stopped": run.stop,
            "shouldStop": run.stop,
            "failed": run.state == "failed",
            "running": run.state == "running",
            "user": user(run.project.entity),
            "historyLineCount": len(history),
            "eventsLineCount": len(run.stream(EVENTS)),
            "logLineCount": len(run.stream("output.log")),
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": json.dumps(run.stream(EVENTS)[-1:]),
            "historyKeys": _history_keys(history),
            "history": lambda minStep=0, maxStep=2**62, samples=10000: [  # noqa: N803
                line for line in history if minStep <= json.loads(line)["_step"] < maxStep
            ][:samples],
            "parquetHistory": lambda liveKeys=(): {"parquetUrls": [], "liveData": None},  # noqa: N803
            "sampledHistory": lambda specs: [_sampled(history, json.loads(spec)) for spec in specs],
            "fileCount": len(names),
            "files": lambda names=None, pattern=None, **_: page(
                self.file(name, path) for name, path in run.files.items() if not names or name in names
            ),
            "outputArtifacts": lambda **_: page(
                self.version(one) for one in self.state.versions() if one.created_by is run and one.state == "COMMITTED"
            ),
            "inputArtifacts": lambda **_: page(
                self.version(one) for one in self.state.versions() if run in one.used_by
            ),
        }

    def file(self, name: str, path: str, digest: str | None = None) -> Object:
        """Describe stored bytes under a name."""
        content = self.state.storage.get(path, b"")
        address = self.address(path)
        return {
            "__typename": "File",
            "id": f"file-{path}",
            "name": name,
            "displayName": name,
            "url": lambda upload=False: address,
            "directUrl": address,
            "sizeBytes": len(content),
            "storagePath": path,
            "mimetype": None,
            "updatedAt": None,
            "digest": digest,
            "md5": digest,
        }

    # artifacts

    def artifact_type(self, project: Project, name: str) -> Object | None:
        """Describe a type and the collections of it."""
        found = [one for (kind, _), one in project.collections.items() if kind == name]
        if not found:
            return None
        return {
            "__typename": "ArtifactType",
            "id": f"type-{name}",
            "name": name,
            "description": None,
            "createdAt": project.created_at,
            "artifactCollections": lambda **_: page(self.collection(one) for one in found if one.committed),
            "artifactCollection": lambda name: next((self.collection(one) for one in found if one.name == name), None),
        }

    def collection(self, collection: Collection | None) -> Object | None:
        """Describe a collection."""
        if collection is None:
            return None
        return {
            "__typename": "ArtifactSequence",
            "id": collection.id,
            "name": collection.name,
            "description": None,
            "createdAt": collection.project.created_at,
            "updatedAt": collection.project.created_at,
            "digestAlgorithm": "MD5",
            "tags": page([]),
            "type": {"__typename": "ArtifactType", "name": collection.type},
            "defaultArtifactType": {"__typename": "ArtifactType", "name": collection.type},
            "state": "READY",
            "project": lambda: self.project(collection.project),
            "aliases": lambda **_: page(
                {"__typename": "ArtifactAlias", "id": f"{one.id}-{alias}", "alias": alias}
                for one in collection.committed
                for alias in one.aliases
            ),
            "artifacts": lambda **_: page(self.version(one) for one in reversed(collection.committed)),
            "latestArtifact": lambda: self.version(collection.find("latest")),
            "artifactMembership": lambda aliasName: self.membership(collection.find(aliasName)),  # noqa: N803
        }

    def named_membership(self, project: Project, name: str) -> Object | None:
        """Find what `collection:alias` names."""
        base, _, alias = name.partition(":")
        collection = project.collection(base)
        return self.membership(collection.find(alias or "latest")) if collection else None

    def membership(self, version: Version | None) -> Object | None:
        """Describe a version as a member of its collection."""
        if version is None:
            return None
        return {
            "__typename": "ArtifactCollectionMembership",
            "id": f"member-{version.id}",
            "versionIndex": version.index,
            "createdAt": version.created_at,
            "aliases": self._aliases(version),
            "artifactCollection": lambda: self.collection(version.collection),
            "artifact": self.version(version),
            "files": lambda names=None, **_: self.files(version, names),
        }

    def files(self, version: Version, names: list[str] | None = None) -> Object:
        """List a version's files."""
        entries = {name: entry for name, entry in version.contents.items() if not names or name in names}
        return page(self.file(name, storage_path(entry["digest"]), entry["digest"]) for name, entry in entries.items())

    def version(self, version: Version | None) -> Object | None:
        """Describe a version."""
        if version is None:
            return None
        sizes = [entry.get("size", 0) for entry in version.contents.values()]
        return {
            "__typename": "Artifact",
            "_version": f"v{version.index}",
            "id": version.id,
            "versionIndex": version.index,
            "artifactSequence": lambda: self.collection(version.collection),
            "artifactType": {"__typename": "ArtifactType", "name": version.collection.type},
            "description": version.description,
            "metadata": version.metadata,
            "ttlDurationSeconds": -1,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": version.history_step,
            "state": version.state,
            "size": sum(sizes),
            "digest": version.digest,
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": version.digest,
            "fileCount": len(sizes),
            "createdAt": version.created_at,
            "updatedAt": version.updated_at,
            "aliases": self._aliases(version),
            "currentManifest": lambda: {
                "__typename": "ArtifactManifest",
                "id": f"manifest-{version.id}",
                "file": self.file("wandb_manifest.json", version.manifest_path),
            },
            "createdBy": lambda: self.run(version.created_by),
            "usedBy": lambda **_: page(self.run(one) for one in version.used_by),
            "files": lambda names=None, **_: self.files(version, names),
        }

    def _aliases(self, version: Version) -> list[Object]:
        return [
            {
                "__typename": "ArtifactAlias",
                "id": f"{version.id}-{alias}",
                "alias": alias,
                "artifactCollection": lambda: self.collection(version.collection),
            }
            for alias in version.aliases
        ]

    # sweeps and views

    def sweep(self, sweep: Sweep | None) -> Object | None:
        """Describe a sweep."""
        if sweep is None:
            return None
        runs = [run for run in sweep.project.runs.values() if run.sweep is sweep]
        return {
            "__typename": "Sweep",
            "id": sweep.id,
            "name": sweep.name,
            "displayName": sweep.display_name,
            "description": None,
            "method": next(
                (line.split(":")[1].strip() for line in sweep.config.splitlines() if line.startswith("method:")), ""
            ),
            "state": sweep.state,
            "config": sweep.config,
            "bestLoss": None,
            "controller": None,
            "scheduler": None,
            "earlyStopJobRunning": False,
            "createdAt": sweep.created_at,
            "updatedAt": sweep.updated_at,
            "heartbeatAt": sweep.updated_at,
            "runCount": len(runs),
            "runCountExpected": None,
            "project": lambda: self.project(sweep.project),
            "runs": lambda **_: page(self.run(run) for run in runs),
        }

    def view(self, view: View | None) -> Object | None:
        """Describe a report or a workspace."""
        if view is None:
            return None
        known = ("type", "name", "displayName", "description", "spec", "previewUrl", "coverUrl", "locked")
        return {
            "__typename": "View",
            "id": view.id,
            **{name: view.fields.get(name) for name in known},
            "createdAt": view.created_at,
            "updatedAt": view.updated_at,
            "updatedBy": user(view.project.entity),
            "user": user(view.project.entity),
            "entityName": view.project.entity,
            "project": lambda: self.project(view.project),
        }


def storage_path(digest: str) -> str:
    """Return where an artifact's bytes lie: by digest, so that the same bytes are kept once."""
    return f"artifacts/{digest.encode().hex()}"


def _history_keys(lines: list[str]) -> Object | None:
    rows = [json.loads(line) for line in lines]
    if not rows:
        return None
    keys: Object = {}
    for row in rows:
        for key, value in row.items():
            kind = "number" if isinstance(value, int | float) else type(value).__name__
            counts = keys.setdefault(key, {"typeCounts": [{"type": kind, "count": 0}]})["typeCounts"][0]
            counts["count"] += 1
    return {"sets": [], "keys": keys, "lastStep": max(row["_step"] for row in rows)}


def _sampled(lines: list[str], spec: Object) -> list[Object]:
    keys = spec.get("keys") or []
    rows = [json.loads(line) for line in lines]
    return [{key: row[key] for key in keys} if keys else row for row in rows if all(key in row for key in keys)]


_FILTERED: dict[str, Callable[[Run], Any]] = {
    "created_at": lambda run: run.created_at,
    "name": lambda run: run.name,
    "displayName": lambda run: run.fields.get("displayName"),
    "display_name": lambda run: run.fields.get("displayName"),
    "group": lambda run: run.fields.get("groupName"),
    "jobType": lambda run: run.fields.get("jobType"),
    "job_type": lambda run: run.fields.get("jobType"),
    "state": lambda run: run.state,
    "sweep": lambda run: run.sweep.name if run.sweep else None,
    "tags": lambda run: run.tags,
}


def _matches(run: Run, wanted: Object) -> bool:
    """Judge the simple part of the query language: equality, `$in`, `$and`, `$or`, config and summary values."""
    for key, value in wanted.items():
        if key in ("$and", "$or"):
            judge = all if key == "$and" else any
            if not judge(_matches(run, one) for one in value):
                return False
        elif not _equals(_value(run, key), value):
            return False
    return True


def _value(run: Run, key: str) -> Any:
    if key in _FILTERED:
        return _FILTERED[key](run)
    place, _, rest = key.partition(".")
    if place == "config":
        content = json.loads(run.fields.get("config") or "{}")
        return content.get(rest.removesuffix(".value"), {}).get("value")
    if place == "summary_metrics":
        return json.loads(run.fields.get("summaryMetrics") or "{}").get(rest)
    raise QueryError(f"runs cannot be filtered by {key!r} here")


def _equals(have: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        if set(wanted) != {"$in"}:
            raise QueryError(f"unknown filter {wanted!r}")
        return any(one in wanted["$in"] for one in have) if isinstance(have, list) else have in wanted["$in"]
    return wanted in have if isinstance(have, list) and not isinstance(wanted, list) else have == wanted
