"""What artifacts look like: types, collections, versions and their files."""

from collections.abc import Iterable
from typing import Any

from wandb_server.state import Collection, Project, State, Version

Object = dict[str, Any]


def page(nodes: Iterable[Object], typename: str = "Connection", **more: Any) -> Object:
    """Give all nodes as the only page of a connection."""
    edges = [{"node": node, "cursor": str(i), "version": node.get("_version")} for i, node in enumerate(nodes)]
    info = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    return {"__typename": typename, "edges": edges, "pageInfo": info, "totalCount": len(edges), **more}


def storage_path(digest: str) -> str:
    """Return where an artifact's bytes lie: by digest, so that the same bytes are kept once."""
    return f"artifacts/{digest.encode().hex()}"


class ArtifactObjects:
    """Makes the objects of artifacts; `Objects` adds what they ask for of projects, runs and files."""

    state: State
    project: Any
    run: Any
    file: Any

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
