"""Send W&B what it has not got of a run's folder: of a finished run, or of one that still records."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from cvx.store.runs import Run
from cvx.tracking import artifacts
from cvx.tracking.account import DEFAULT_TIMEOUTS, Target, Timeouts
from cvx.tracking.finish import Page, check, complete_pictures, ending, send_artifacts, send_code
from cvx.tracking.run_link import (
    FILE,
    RunLink,
    claim,
    last_step,
    link_for,
    next_link,
    of_sweep,
    open_run,
    read_link,
    scratch_folder,
)
from cvx.tracking.upload import CONFUSION, Upload, replay
from cvx.tracking.verify_upload import Arrival, arrived, recorded_steps

Say = Callable[[str], None]
"""Hears the few lines that a person should read."""


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


@dataclasses.dataclass(frozen=True)
class AtWork:
    """A run that still records in this process."""

    more: Callable[[], bool]
    """Waits until it has recorded something new, and tells whether it may record more after that."""
    exit_code: Callable[[], int]


def tell(line: str) -> None:
    """Print a line for a person."""
    print(line, file=sys.stderr, flush=True)


def publish(
    folder: Path, where: Target, timeouts: Timeouts = DEFAULT_TIMEOUTS, page: Page | None = None, say: Say = tell
) -> Published:
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
            if not recorded_steps(folder):
                raise ValueError(f"run {folder.name} has recorded nothing yet")
            return send(folder, where, timeouts, page, say)
    except Timeout:
        raise ValueError(f"run {folder.name} is being trained now; publish it when it is done") from None


def send(
    folder: Path, where: Target, timeouts: Timeouts, page: Page | None, say: Say, at_work: AtWork | None = None
) -> Published:
    """Send what W&B has not got of a run, in order, until nothing more is recorded; then check that all of it arrived.

    The folder alone says what there is to send. A run that begins, one that is resumed, one whose connection broke and
    one that is published later differ only in how much W&B has already. It takes no step older than its last one:
    where such are missing, the run is sent whole under a new id.

    Raises:
        ValueError: If the run lies in another project of W&B.
        OSError: If W&B does not answer, or takes no more rows.
    """
    link = link_for(folder, where)
    there = read_link(folder) is not None or claim(folder, link, timeouts, say)
    known = arrived(link, timeouts=dataclasses.replace(timeouts, appear=0)) if there else None
    if known is not None and link.complete and recorded_steps(folder) <= known.steps and not known.missing_files:
        return _published(folder, link, 0, "")
    gap, why = _gap(folder, link, known, timeouts), ""
    if gap and of_sweep(folder, link):
        why = (
            f"; W&B takes no step older than the last one it has, and a run of a sweep keeps its id. Delete"
            f" {folder / FILE} and publish the run again to have it whole beside the sweep"
        )
    elif gap:
        before, link, known = link, next_link(link), None
        say(f"W&B: {before.url or before.path} lacks {len(gap)} steps that it takes no more: sent whole as {link.id}")
    with scratch_folder() as scratch:
        has_final = known is not None and CONFUSION in known.keys and not known.lost_tables
        sent = _stream(folder, link, scratch, not there, has_final, timeouts, page, say, at_work)
        missing = check(folder, link, timeouts)
        if missing and complete_pictures(folder, link, scratch, timeouts, page):
            missing = check(folder, link, timeouts)
    return _published(folder, link, sent, missing and missing + why)


def _gap(folder: Path, link: RunLink, known: Arrival | None, timeouts: Timeouts) -> frozenset[int]:
    """Return the recorded steps before W&B's last one that it has not got."""
    if known is None or not known.steps:
        return frozenset()
    older = frozenset(step for step in recorded_steps(folder) if step < max(known.steps))
    if older <= known.steps:
        return frozenset()
    again = arrived(link, older, timeouts)  # what it has taken may become readable late
    return older - (again or known).steps


def _stream(
    folder: Path,
    link: RunLink,
    scratch: Path,
    new: bool,
    has_final: bool,
    timeouts: Timeouts,
    page: Page | None,
    say: Say,
    at_work: AtWork | None,
) -> int:
    """Send it; return how many steps were sent.

    Raises:
        OSError: If W&B stops answering.
    """
    run = open_run(folder, link, scratch, new=new, live=at_work is not None, timeouts=timeouts)
    upload = Upload(folder, run, run.starting_step, scratch, has_final)
    with ending(upload, run, link, at_work.exit_code if at_work else lambda: 0 if Run(folder).summary else 1):
        with contextlib.suppress(Exception):  # code stands beside the run: its rows do not depend on it
            artifacts.log_code(run) if at_work else send_code(run, folder)
        if at_work:
            say(f"W&B: streaming to {link.url}")
            replay(upload, _watched(at_work.more, upload, link, timeouts))
        else:
            replay(upload)
        there = send_artifacts(upload, run, link, Run(folder).summary, timeouts, None if has_final else page)
    if not there:
        raise OSError("W&B stopped answering; what has not arrived is kept, to be published again")
    return upload.num_sent


def _watched(more: Callable[[], bool], upload: Upload, link: RunLink, timeouts: Timeouts) -> Callable[[], bool]:
    """Look now and then whether rows arrive: one refusal ends wandb's stream for good, and nothing tells of it."""
    looked, sent = time.monotonic(), upload.last_step

    def watched() -> bool:
        nonlocal looked, sent
        going = more()
        if going and time.monotonic() - looked > timeouts.look:
            here = sent
            with contextlib.suppress(OSError):  # W&B is away: wandb itself tries again
                here = last_step(link, timeouts)
            if here < sent:
                raise OSError(f"W&B has taken no row since step {here}")
            looked, sent = time.monotonic(), upload.last_step
        return going

    return watched


def _published(folder: Path, link: RunLink, sent: int, missing: str) -> Published:
    names = tuple(link.artifacts.values())
    return Published(folder.name, link.url, sent, link.steps, len(recorded_steps(folder)), names, missing)
