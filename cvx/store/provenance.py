"""Record what made a result: git commit and library versions."""

import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from cvx.processes import ROOT


def provenance() -> dict[str, Any]:
    """Return when and by what something was made: time, git commit and library versions."""
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "git_commit": _commit(),
        "versions": _versions(),
    }


def _commit() -> str:
    """Return the commit of the checkout that cvx runs from, `-dirty` if it was changed, empty if there is none."""
    if not (ROOT / ".git").exists():  # installed; a repository further up, with Python's packages in it, is another's
        return ""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""


def _versions() -> dict[str, str]:
    names = ("cvx", "torch", "torchvision", "timm", "numpy", "scikit-learn", "umap-learn")
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


def _version(name: str) -> str:
    """Return a package's version; empty for cvx where it is a folder on the path and was never installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
