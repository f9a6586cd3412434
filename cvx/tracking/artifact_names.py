"""Name artifacts and runs on W&B: our own names wherever it takes them."""

import hashlib
import re

from cvx.names import slug

LONGEST = 128
"""Characters of an artifact's name."""
LONGEST_ID = 90
"""Characters of a run's id: W&B names a run's tables `run-<id>-<key>`, as artifacts."""
TAG = 64
"""Characters of a tag."""
VERSION = re.compile(r"([^/:\s]+)/([^/:\s]+)/([^/:\s]+):(v\d+)")
"""Entity, project, name and version of an artifact, as `Artifact.qualified_name` has them."""


def safe(name: str, longest: int = LONGEST) -> str:
    """Return a name that W&B takes: the same one if it does, else its beginning and a digest of all of it.

    What was shortened is told by the artifact's metadata, by which `pull` goes.
    """
    if re.fullmatch(rf"[A-Za-z0-9_.-]{{1,{longest}}}", name):
        return name
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{plain[: longest - len(digest) - 1]}-{digest}"


def samples_name(dataset: str) -> str:
    """Return the artifact's name of a dataset's fixed test images."""
    return safe(f"{slug(dataset)}-samples")


def records_name(run: str) -> str:
    """Return the artifact's name of a run's records."""
    return safe(f"{run}-records")


def run_id(run: str) -> str:
    """Return the id on W&B of a run: its name, if that is short enough."""
    return safe(run, LONGEST_ID)


def next_id(id: str) -> str:
    """Return the id after one that W&B does not give out again: `a`, `a-again2`, `a-again3`, …"""
    match = re.fullmatch(r"(.*)-again(\d+)", id)
    base, number = (match[1], int(match[2]) + 1) if match else (id, 2)
    return safe(f"{base}-again{number}", LONGEST_ID)
