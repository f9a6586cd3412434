"""Start processes: let torch's threads sleep sooner while they wait, and let a child process find cvx."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import cvx

ROOT = Path(cvx.__file__).resolve().parent.parent
"""The folder that holds the package: a checkout, or where Python keeps what is installed."""
PROGRAM = "cvx" if Path(sys.argv[0]).stem == "cvx" else "python -m cvx"
"""What was typed to start a command."""
SPINS = "1000"
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Variables by which users choose themselves how OpenMP's threads wait."""


def spin_less() -> None:
    """Let OpenMP's threads go to sleep sooner while they wait, in this process and its children.

    For its threads libgomp, which torch's wheels for Linux bring, tries 300,000 times (some 3 ms) whether there is work
    before it lets them sleep. Beside another process that computes, they so hold the very cores that they wait for.
    To be called before torch is imported; other systems have another OpenMP. What the user has chosen stands.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS


def finding_cvx(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child in which `python -m cvx` is this cvx, whether it is installed or not."""
    if ROOT.name in ("site-packages", "dist-packages"):  # found as it is; on PYTHONPATH it would hide Python's own
        return dict(environ)
    path = [str(ROOT), *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, "PYTHONPATH": os.pathsep.join(path)}
