"""What a run ends with on W&B: final numbers, models and records sent, and a look at whether all of it arrived."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cvx.records import Run
from cvx.store import Store
from cvx.tracking import artifacts
from cvx.tracking.account import PATIENT, Patience, answers
from cvx.tracking.arrival import arrived, recorded_steps
from cvx.tracking.connection import Link
from cvx.tracking.upload import Upload


def send_samples(upload: Upload, run: Any, link: Link, patience: Patience = PATIENT) -> None:
    """Say which samples the run looks at; rows must not wait for W&B's word on it, so a failure is left to the end."""
    if (samples := upload.samples()) is not None:
        _try(lambda: artifacts.use_samples(run, samples, link, patience))


def send_artifacts(
    upload: Upload, run: Any, link: Link, summary: Mapping[str, Any] | None, patience: Patience = PATIENT
) -> None:
    """Send a finished run's final numbers and pictures, its models and its records.

    Where W&B does not answer, the last step is held back with all that belongs to it: tables would keep a person
    waiting for minutes, and `publish` sends a step that has not arrived as a whole.
    """
    if summary is None:
        return
    if not answers(patience):
        upload.hold_back()
        return
    upload.finish(summary)
    store = Store(upload.folder.parent.parent)

    def log_model(role: str) -> Callable[[], None]:
        return lambda: artifacts.log_model(run, link, role, store, summary[role], patience)

    records = [lambda: artifacts.log_records(run, link, upload.folder, patience)]
    for step in [*map(log_model, _roles(summary)), *records]:
        if not _try(step):  # the next would only wait as long for nothing
            return


def _roles(summary: Mapping[str, Any]) -> list[str]:
    return [role for role in ("best", "last") if role in summary]


def _try(step: Callable[[], None]) -> bool:
    """Run a step and tell whether it went well; what did not arrive is found by `check`."""
    try:
        step()
    except OSError:
        return False
    return True


def check(folder: Path, link: Link, patience: Patience = PATIENT) -> str:
    """Compare W&B with the folder, note the result, and say what is missing, if anything is.

    Raises:
        OSError: If W&B does not answer.
    """
    recorded, summary = recorded_steps(folder), Run(folder).summary
    found = arrived(link, recorded, patience)
    if found is None:
        return "the run is not there"
    link.steps = len(found.steps & recorded)
    missing = _missing(
        {
            "steps": len(recorded - found.steps),
            "pictures": len(found.missing_files),
            "artifacts": len([role for role in _expected(summary) if role not in link.artifacts]),
        }
    )
    link.complete = not missing and summary is not None
    link.save(folder)
    return missing


def _expected(summary: Mapping[str, Any] | None) -> list[str]:
    return [*_roles(summary), "records"] if summary is not None else []


def _missing(counts: Mapping[str, int]) -> str:
    words = [f"{num} {name}" for name, num in counts.items() if num]
    return f"{', '.join(words)} did not arrive" if words else ""
