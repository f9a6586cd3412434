"""A recorded run, sent to W&B as if it had been online."""

import dataclasses
from pathlib import Path

from filelock import FileLock, Timeout

from cvx.records import Run
from cvx.tracking.account import PATIENT, Patience, Target
from cvx.tracking.arrival import arrived, recorded_steps, send_pictures
from cvx.tracking.connection import Link, link_for, open_run, read_link, scratch_folder
from cvx.tracking.ending import check, send_artifacts, send_samples
from cvx.tracking.upload import CONFUSION, Upload, draw_all, replay


@dataclasses.dataclass(frozen=True)
class Published:
    """What became of one run."""

    run: str
    url: str
    sent: int
    """Steps that were sent now."""
    steps: int
    """Steps that W&B has now, of those recorded."""
    recorded: int
    artifacts: tuple[str, ...]
    missing: str = ""
    """What has not arrived, in words."""


def publish(folder: Path, where: Target, patience: Patience = PATIENT) -> Published:
    """Send what W&B has not got of a run, and check that all of it arrived.

    Raises:
        ValueError: If the run is being trained now, or lies in another project of W&B.
        OSError: If W&B does not answer.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"no run in {folder}")
    try:
        with FileLock(folder / ".lock", timeout=0):
            return _publish(folder, where, patience)
    except Timeout:
        raise ValueError(f"run {folder.name} is being trained now; publish it when it is done") from None


def _publish(folder: Path, where: Target, patience: Patience) -> Published:
    link, recorded = link_for(folder, where), recorded_steps(folder)
    if not recorded:
        raise ValueError(f"run {folder.name} has recorded nothing yet")
    known = arrived(link, patience=dataclasses.replace(patience, appear=0)) if read_link(folder) else None
    if known is not None and link.complete and recorded <= known.steps and not known.missing_files:
        return _published(folder, link, 0, "")
    with scratch_folder() as scratch:
        has_final = known is not None and CONFUSION in known.keys
        sent = _send(folder, link, scratch, has_final, patience)
        missing = check(folder, link, patience)
        if missing and _complete_pictures(folder, link, scratch, patience):
            missing = check(folder, link, patience)
    return _published(folder, link, sent, missing)


def _send(folder: Path, link: Link, scratch: Path, has_final: bool, patience: Patience) -> int:
    summary = Run(folder).summary
    run = open_run(folder, link, scratch, live=False, patience=patience)
    upload = Upload(folder, run, run.starting_step, scratch, has_final)
    try:
        send_samples(upload, run, link, patience)
        replay(upload)
        send_artifacts(upload, run, link, summary, patience)
    finally:
        upload.flush()
        run.finish(exit_code=0 if summary is not None else 1)
        link.save(folder)
    return upload.num_sent


def _complete_pictures(folder: Path, link: Link, scratch: Path, patience: Patience) -> bool:
    """Draw again what W&B has rows of but no pictures; tell whether anything was sent."""
    known = arrived(link, patience=dataclasses.replace(patience, appear=0))
    if known is None or not known.missing_files:
        return False
    draw_all(folder, scratch / "drawn")
    lost = send_pictures(link, known.missing_files, scratch)
    return len(lost) < len(known.missing_files)


def _published(folder: Path, link: Link, sent: int, missing: str) -> Published:
    names = tuple(link.artifacts.values())
    return Published(folder.name, link.url, sent, link.steps, len(recorded_steps(folder)), names, missing)
