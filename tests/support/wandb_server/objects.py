"""What the stand-in keeps, as the GraphQL objects that the client asks for."""

import json
from collections.abc import Callable
from typing import Any

from wandb_server.artifacts import ArtifactObjects, Object, page
from wandb_server.rows import history_keys, matches, sampled, value_of
from wandb_server.state import Project, Run, State, Sweep, View

HISTORY, EVENTS = "wandb-history.jsonl", "wandb-events.jsonl"


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


class Objects(ArtifactObjects):
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
            chosen = [one for one in project.runs.values() if matches(one, json.loads(filters or "{}"))]
            place, downward = (order or "+created_at").lstrip("+-"), (order or "").startswith("-")
            known = [(value_of(one, place), one) for one in chosen]
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
            "historyKeys": history_keys(history),
            "history": lambda minStep=0, maxStep=2**62, samples=10000: [  # noqa: N803
                line for line in history if minStep <= json.loads(line)["_step"] < maxStep
            ][:samples],
            "parquetHistory": lambda liveKeys=(): {"parquetUrls": [], "liveData": None},  # noqa: N803
            "sampledHistory": lambda specs: [sampled(history, json.loads(spec)) for spec in specs],
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
