"""A recorded run, sent to W&B as if it had been online."""

import dataclasses
from pathlib import Path

from filelock import FileLock, Timeout

from cvx.records import Run
from cvx.tracking.account import PATIENT, Patience, Target
from cvx.tracking.arrival import arrived, recorded_steps
from cvx.tracking.connection import Link, link_for, open_run, read_link, scratch_folder
from cvx.tracking.ending import Page, check, complete_pictures, ending, send_artifacts, send_code, send_samples
from cvx.tracking.upload import CONFUSION, Upload, replay


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


def publish(folder: Path, where: Target, patience: Patience = PATIENT, page: Page | None = None) -> Published:
    """Send what W&B has not got of a run, and check that all of it arrived.

    Args:
        page: Draws the run's own page, which is sent too.

    Raises:
        ValueError: If the run is being trained now, or lies in another project of W&B.
        OSError: If W&B does not answer.
    """
    if not (folder / "config.json").is_file():
        raise ValueError(f"no run in {folder}")
    try:
        with FileLock(folder / ".lock", timeout=0):
            return _publish(folder, where, patience, page)
    except Timeout:
        raise ValueError(f"run {folder.name} is being trained now; publish it when it is done") from None


def _publish(folder: Path, where: Target, patience: Patience, page: Page | None) -> Published:
    link, recorded = link_for(folder, where), recorded_steps(folder)
    if not recorded:
        raise ValueError(f"run {folder.name} has recorded nothing yet")
    known = arrived(link, patience=dataclasses.replace(patience, appear=0)) if read_link(folder) else None
    if known is not None and link.complete and recorded <= known.steps and not known.missing_files:
        return _published(folder, link, 0, "")
    with scratch_folder() as scratch:
        has_final = known is not None and CONFUSION in known.keys and not known.lost_tables
        sent, there = _send(folder, link, scratch, has_final, patience, page)
        if not there:
            raise OSError(f"W&B stopped answering; run {folder.name} is kept, publish it again")
        missing = check(folder, link, patience)
        if missing and complete_pictures(folder, link, scratch, patience, page):
            missing = check(folder, link, patience)
    return _published(folder, link, sent, missing)


def _send(
    folder: Path, link: Link, scratch: Path, has_final: bool, patience: Patience, page: Page | None
) -> tuple[int, bool]:
    """Send it; return how many steps were sent, and whether W&B is still there."""
    summary = Run(folder).summary
    run = open_run(folder, link, scratch, live=False, patience=patience)
    upload = Upload(folder, run, run.starting_step, scratch, has_final)
    with ending(upload, run, link, lambda: 0 if summary is not None else 1):
        send_code(run, folder)
        send_samples(upload, run, link, patience)
        replay(upload)
        there = send_artifacts(upload, run, link, summary, patience, None if has_final else page)
    return upload.num_sent, there


def _published(folder: Path, link: Link, sent: int, missing: str) -> Published:
    names = tuple(link.artifacts.values())
    return Published(folder.name, link.url, sent, link.steps, len(recorded_steps(folder)), names, missing)
