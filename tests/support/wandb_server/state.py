"""What the stand-in keeps: projects with their runs, artifacts, sweeps and views; and the bytes behind them."""

import base64
import dataclasses
import hashlib
import itertools
from datetime import datetime, timezone
from typing import Any

ENTITY = "tester"


class Conflict(Exception):  # noqa: N818 - HTTP's word for it
    """The client asked for something that it can understand it may not have."""


def now() -> str:
    """Return the time as the API writes it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def new_id(kind: str, counter: "itertools.count[int]" = itertools.count(1)) -> str:  # noqa: B008 - one counter is meant
    """Make up an opaque id as the API does: base64 of `Kind:number`."""
    return base64.b64encode(f"{kind}:{next(counter)}".encode()).decode()


def md5(content: bytes) -> str:
    """Return the digest that artifacts use: base64 of the md5."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


@dataclasses.dataclass(eq=False)
class Version:
    """One version of an artifact, pending until it is committed."""

    collection: "Collection"
    digest: str
    id: str = dataclasses.field(default_factory=lambda: new_id("Artifact"))
    client_id: str = ""
    state: str = "PENDING"
    index: int | None = None
    description: str | None = None
    metadata: str | None = None
    aliases: list[str] = dataclasses.field(default_factory=list)
    created_at: str = dataclasses.field(default_factory=now)
    updated_at: str = dataclasses.field(default_factory=now)
    created_by: "Run | None" = None
    used_by: "list[Run]" = dataclasses.field(default_factory=list)
    history_step: int | None = None
    manifest: dict[str, Any] | None = None
    manifest_path: str = ""

    @property
    def contents(self) -> dict[str, Any]:
        """Return the manifest's entries by path."""
        return (self.manifest or {}).get("contents", {})


@dataclasses.dataclass(eq=False)
class Collection:
    """All versions of an artifact of one name."""

    project: "Project"
    type: str
    name: str
    id: str = dataclasses.field(default_factory=lambda: new_id("ArtifactCollection"))
    versions: list[Version] = dataclasses.field(default_factory=list)

    @property
    def committed(self) -> list[Version]:
        """Return the versions that are whole, oldest first."""
        found = [one for one in self.versions if one.state == "COMMITTED"]
        return sorted(found, key=lambda one: one.index or 0)

    def find(self, alias: str) -> Version | None:
        """Return the version that an alias, a number or a digest names."""
        for one in self.committed:
            if alias in (f"v{one.index}", one.digest, *one.aliases):
                return one
        return None

    def move_alias(self, alias: str, version: Version) -> None:
        """Give an alias to this version alone."""
        for one in self.versions:
            one.aliases = [known for known in one.aliases if known != alias]
        version.aliases.append(alias)


@dataclasses.dataclass(eq=False)
class Run:
    """One run: what it sent, line by line."""

    project: "Project"
    name: str
    id: str = dataclasses.field(default_factory=lambda: new_id("Run"))
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    tags: list[str] = dataclasses.field(default_factory=list)
    lines: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """Lines of `wandb-history.jsonl`, `wandb-events.jsonl`, `output.log`, …"""
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    """Storage paths of uploaded files by name."""
    sweep: "Sweep | None" = None
    state: str = "running"
    exit_code: int | None = None
    created_at: str = dataclasses.field(default_factory=now)
    heartbeat_at: str = dataclasses.field(default_factory=now)
    stop: bool = False

    def stream(self, file: str) -> list[str]:
        """Return the lines of a streamed file."""
        return self.lines.setdefault(file, [])


@dataclasses.dataclass(eq=False)
class Sweep:
    """A registered sweep: its YAML, and the runs its agents were given."""

    project: "Project"
    name: str
    config: str
    id: str = dataclasses.field(default_factory=lambda: new_id("Sweep"))
    state: str = "PENDING"
    display_name: str | None = None
    agents: list[str] = dataclasses.field(default_factory=list)
    given: list[str] = dataclasses.field(default_factory=list)
    created_at: str = dataclasses.field(default_factory=now)
    updated_at: str = dataclasses.field(default_factory=now)


@dataclasses.dataclass(eq=False)
class View:
    """A report or a saved workspace: a JSON spec under a name."""

    project: "Project"
    id: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    created_at: str = dataclasses.field(default_factory=now)
    updated_at: str = dataclasses.field(default_factory=now)


@dataclasses.dataclass(eq=False)
class Project:
    """A project of an entity."""

    entity: str
    name: str
    number: int = dataclasses.field(default_factory=itertools.count(1).__next__)
    runs: dict[str, Run] = dataclasses.field(default_factory=dict)
    collections: dict[tuple[str, str], Collection] = dataclasses.field(default_factory=dict)
    sweeps: dict[str, Sweep] = dataclasses.field(default_factory=dict)
    views: dict[str, View] = dataclasses.field(default_factory=dict)
    created_at: str = dataclasses.field(default_factory=now)
    deleted: set[str] = dataclasses.field(default_factory=set)
    """Names of runs that were deleted."""

    @property
    def id(self) -> str:
        """Return the opaque id."""
        return base64.b64encode(f"Project:{self.number}".encode()).decode()

    def collection(self, name: str) -> Collection | None:
        """Find a collection of any type by name."""
        return next((one for (_, known), one in self.collections.items() if known == name), None)


@dataclasses.dataclass(eq=False)
class State:
    """Everything, and nothing of it on disk."""

    projects: dict[tuple[str, str], Project] = dataclasses.field(default_factory=dict)
    storage: dict[str, bytes] = dataclasses.field(default_factory=dict)
    uploads: list[str] = dataclasses.field(default_factory=list)
    """Paths in the order in which bytes arrived; what is not sent again does not appear again."""

    def project(self, entity: str | None, name: str, create: bool = False) -> Project | None:
        """Find a project, or make it."""
        key = (entity or ENTITY, name)
        if create and key not in self.projects:
            self.projects[key] = Project(*key)
        return self.projects.get(key)

    def versions(self) -> list[Version]:
        """List every version of every artifact, pending ones too."""
        return [
            version
            for project in self.projects.values()
            for collection in project.collections.values()
            for version in collection.versions
        ]

    def version(self, id: str) -> Version | None:
        """Find a version by its id, or by the id its client gave it."""
        return next((one for one in self.versions() if id in (one.id, one.client_id)), None)
