"""The root fields that wandb's client calls: what it may ask, and what it may change."""

import json
from typing import Any

from wandb_server import sweeps
from wandb_server.artifacts import Object, page, storage_path
from wandb_server.graphql import QueryError
from wandb_server.objects import Objects, entity_object, user
from wandb_server.state import ENTITY, Collection, Conflict, Project, Run, State, Version, View, md5, new_id, now


class Schema:
    """Answers root fields from the state; `uploads` is where bytes are sent to."""

    def __init__(self, state: State, objects: Objects):
        self.state = state
        self.objects = objects

    def root(self) -> Object:
        """Return the root object: queries and mutations together, as no name is both."""
        queries = {
            "viewer": user(ENTITY),
            "serverInfo": {"__typename": "ServerInfo", "features": [], "latestLocalVersionInfo": None},
            "entity": lambda name: entity_object(name),
            "organization": lambda name, **_: None,
            "project": self.project,
            "model": self.project,
            "models": lambda entityName=None, **_: page(  # noqa: N803 - the API's name
                self.objects.project(one) for one in self.state.projects.values() if entityName in (None, one.entity)
            ),
            "artifact": lambda id: self.objects.version(self.state.version(id)),
            "clientIDMapping": self.client_id_mapping,
            "view": lambda id: self.objects.view(self._view(id)),
        }
        changes = {
            "upsertBucket": self.upsert_bucket,
            "upsertModel": self.upsert_model,
            "createRunFiles": self.create_run_files,
            "createArtifact": self.create_artifact,
            "createArtifactManifest": self.create_artifact_manifest,
            "updateArtifactManifest": self.update_artifact_manifest,
            "createArtifactFiles": self.create_artifact_files,
            "commitArtifact": self.commit_artifact,
            "useArtifact": self.use_artifact,
            "updateArtifact": self.update_artifact,
            "addAliases": self.add_aliases,
            "deleteAliases": self.delete_aliases,
            "deleteArtifact": self.delete_artifact,
            "upsertView": self.upsert_view,
            "deleteView": self.delete_view,
            "upsertSweep": lambda input: sweeps.upsert(self, input),
            "createAgent": lambda input: sweeps.create_agent(self, input),
            "agentHeartbeat": lambda input: sweeps.heartbeat(self, input),
        }
        return {"__typename": "Root", **queries, **changes}

    def project(self, name: str, entityName: str | None = None) -> Object | None:  # noqa: N803
        """Find a project."""
        return self.objects.project(self.state.project(entityName, name))

    def client_id_mapping(self, clientID: str) -> Object | None:  # noqa: N803
        """Tell the server's id for a client's."""
        version = self.state.version(clientID)
        return {"__typename": "ClientIDMapping", "serverID": version.id} if version else None

    # runs

    def upsert_bucket(self, input: Object) -> Object:
        """Create a run, or change one."""
        given = {key: value for key, value in input.items() if value is not None}
        run = self._by_id(given["id"]) if "id" in given else None
        inserted = False
        if run is None:
            project = self.make_project(given.get("entityName"), given.get("modelName") or "uncategorized")
            if given["name"] in project.deleted:
                place = f"{project.entity}/{project.name}/{given['name']}"
                raise Conflict(f"run {place} was previously created and deleted; try a new run id")
            run = project.runs.get(given["name"])
            inserted = run is None
            run = run or project.runs.setdefault(given["name"], Run(project, given["name"]))
        run.tags = given.pop("tags", run.tags)
        run.state = given.pop("state", run.state) if not inserted else "running"
        if sweep := given.pop("sweep", None):
            run.sweep = run.project.sweeps[sweep]
        run.fields |= given
        return {"__typename": "UpsertBucketPayload", "bucket": self.objects.run(run), "inserted": inserted}

    def _by_id(self, id: str) -> Run:
        for project in self.state.projects.values():
            for run in project.runs.values():
                if run.id == id:
                    return run
        raise QueryError(f"there is no run with the id {id}")

    def make_project(self, entity: str | None, name: str) -> Project:
        """Find a project, or make it."""
        project = self.state.project(entity, name, create=True)
        assert project is not None
        return project

    def upsert_model(self, input: Object) -> Object:
        """Create a project."""
        known = self.state.project(input.get("entityName"), input["name"])
        project = self.objects.project(self.make_project(input.get("entityName"), input["name"]))
        return {"__typename": "UpsertModelPayload", "project": project, "model": project, "inserted": known is None}

    def create_run_files(self, input: Object) -> Object:
        """Say where a run's files are to be sent."""
        run = self.run(input["entityName"], input["projectName"], input["runName"])
        files = []
        for name in input["files"]:
            path = run.files.setdefault(name, f"runs/{run.id}/{name}")
            files.append({"__typename": "File", "name": name, "uploadUrl": self.objects.address(path)})
        return {"__typename": "CreateRunFilesPayload", "runID": run.id, "uploadHeaders": [], "files": files}

    def run(self, entity: str | None, project: str, name: str) -> Run:
        """Find a run that must exist."""
        found = self.state.project(entity, project)
        if found is None or name not in found.runs:
            raise QueryError(f"there is no run {entity}/{project}/{name}")
        return found.runs[name]

    # artifacts

    def create_artifact(self, input: Object) -> Object:
        """Begin a version; one of the same content is given back instead, with its aliases moved."""
        project = self.make_project(input["entityName"], input["projectName"])
        kind, name = input["artifactTypeName"], input["artifactCollectionName"]
        other = project.collection(name)
        if other and other.type != kind:
            raise QueryError(f"collection {name} is of type {other.type}, not {kind}")
        collection = project.collections.setdefault((kind, name), Collection(project, kind, name))
        aliases = [one["alias"] for one in input.get("aliases") or []]
        same = next((one for one in collection.committed if one.digest == input["digest"]), None)
        version = same or Version(collection, input["digest"])
        if same is None:
            collection.versions.append(version)
            run = project.runs.get(input.get("runName") or "")
            version.created_by, version.history_step = run, input.get("historyStep")
            version.description, version.metadata = input.get("description"), input.get("metadata")
            version.aliases = aliases
        version.client_id = input.get("clientID") or version.client_id
        if same is not None:
            self._settle(same, [*aliases, "latest"])
        return {"__typename": "CreateArtifactPayload", "artifact": self.objects.version(version)}

    def create_artifact_manifest(self, input: Object) -> Object:
        """Say where the list of files is to be sent."""
        if input.get("type") not in (None, "FULL"):
            raise QueryError(f"manifests of type {input['type']} are not known here")
        return self._manifest("CreateArtifactManifestPayload", self._version(input["artifactID"]))

    def update_artifact_manifest(self, input: Object) -> Object:
        """Say once more where the list of files is to be sent."""
        id = input["artifactManifestID"].removeprefix("manifest-")
        return self._manifest("UpdateArtifactManifestPayload", self._version(id))

    def _manifest(self, typename: str, version: Version) -> Object:
        version.manifest_path = f"manifests/{version.id}.json"
        file = {
            "__typename": "File",
            "id": f"manifest-file-{version.id}",
            "uploadUrl": self.objects.address(version.manifest_path),
            "uploadHeaders": [],
        }
        manifest = {"__typename": "ArtifactManifest", "id": f"manifest-{version.id}", "file": file}
        return {"__typename": typename, "artifactManifest": manifest}

    def create_artifact_files(self, input: Object) -> Object:
        """Say where files are to be sent; those whose bytes are here already need not be."""
        nodes = []
        for spec in input["artifactFiles"]:
            path = storage_path(spec["md5"])
            nodes.append(
                {
                    "__typename": "File",
                    "storagePath": path,
                    "uploadUrl": None if path in self.state.storage else self.objects.address(path),
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": self.objects.version(self._version(spec["artifactID"])),
                }
            )
        return {"__typename": "CreateArtifactFilesPayload", "files": page(nodes)}

    def commit_artifact(self, input: Object) -> Object:
        """Make a version whole, if each of its files has arrived as its digest says."""
        version = self._version(input["artifactID"])
        if version.manifest_path not in self.state.storage:
            raise QueryError(f"artifact {version.collection.name} was committed before its manifest came")
        version.manifest = json.loads(self.state.storage[version.manifest_path])
        for name, entry in version.contents.items():
            content = self.state.storage.get(storage_path(entry["digest"]))
            if content is None or md5(content) != entry["digest"] or len(content) != entry.get("size", len(content)):
                raise QueryError(f"artifact {version.collection.name}: {name} did not arrive as its digest says")
        version.state = "COMMITTED"
        version.index = len(version.collection.committed) - 1
        self._settle(version, [*version.aliases, "latest"])
        return {"__typename": "CommitArtifactPayload", "artifact": self.objects.version(version)}

    def _settle(self, version: Version, aliases: list[str]) -> None:
        for alias in aliases:
            version.collection.move_alias(alias, version)
        version.aliases = list(dict.fromkeys(version.aliases))
        version.updated_at = now()

    def _version(self, id: str) -> Version:
        version = self.state.version(id)
        if version is None:
            raise QueryError(f"there is no artifact with the id {id}")
        return version

    def use_artifact(self, input: Object) -> Object:
        """Note that a run read an artifact."""
        version = self._version(input["artifactID"])
        run = self.run(input["entityName"], input["projectName"], input["runName"])
        if run not in version.used_by:
            version.used_by.append(run)
        return {"__typename": "UseArtifactPayload", "artifact": self.objects.version(version)}

    def update_artifact(self, input: Object) -> Object:
        """Change what is said about a version."""
        version = self._version(input["artifactID"])
        version.metadata = input.get("metadata") or version.metadata
        version.description = input.get("description") or version.description
        if input.get("aliases") is not None:
            version.aliases = []
            self._settle(version, [one["alias"] for one in input["aliases"]])
        return {"__typename": "UpdateArtifactPayload", "artifact": self.objects.version(version)}

    def add_aliases(self, input: Object) -> Object:
        """Give aliases to a version."""
        self._settle(self._version(input["artifactID"]), [one["alias"] for one in input["aliases"]])
        return {"__typename": "AddAliasesPayload", "success": True}

    def delete_aliases(self, input: Object) -> Object:
        """Take aliases from a version."""
        version, gone = self._version(input["artifactID"]), {one["alias"] for one in input["aliases"]}
        version.aliases = [alias for alias in version.aliases if alias not in gone]
        return {"__typename": "DeleteAliasesPayload", "success": True}

    def delete_artifact(self, input: Object) -> Object:
        """Delete a version; one with aliases of its own only if asked to."""
        version = self._version(input["artifactID"])
        if set(version.aliases) - {"latest"} and not input.get("deleteAliases"):
            raise QueryError("an artifact with aliases is deleted only with deleteAliases")
        answer = self.objects.version(version)
        version.state = "DELETED"
        return {"__typename": "DeleteArtifactPayload", "artifact": answer}

    # reports and workspaces

    def upsert_view(self, input: Object) -> Object:
        """Save a report or a workspace."""
        known = self._view(input["id"]) if input.get("id") else None
        inserted = known is None
        if known is None:
            project = self.make_project(input.get("entityName"), input["projectName"])
            name = input.get("name")
            known = next((one for one in project.views.values() if name and one.fields.get("name") == name), None)
            known = known or project.views.setdefault(id := new_id("View"), View(project, id))
        known.fields |= {key: value for key, value in input.items() if value is not None}
        known.updated_at = now()
        return {"__typename": "UpsertViewPayload", "view": self.objects.view(known), "inserted": inserted}

    def delete_view(self, input: Object) -> Object:
        """Delete a report or a workspace."""
        view = self._view(input["id"])
        if view:
            del view.project.views[view.id]
        return {"__typename": "DeleteViewPayload", "success": view is not None, "pendingDeletion": False}

    def _view(self, id: str) -> View | None:
        return next((one.views[id] for one in self.state.projects.values() if id in one.views), None)


def errors(text: str) -> dict[str, Any]:
    """Return a GraphQL error."""
    return {"data": None, "errors": [{"message": text}]}
