"""End a run on W&B: send final numbers, models and records, and check that all of it arrived."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cvx.store import Store
from cvx.store.provenance import provenance
from cvx.store.runs import Run
from cvx.tracking import artifacts
from cvx.tracking.account import DEFAULT_TIMEOUTS, Timeouts, answers, as_oserror, one_line
from cvx.tracking.artifact_names import VERSION
from cvx.tracking.best_alias import update_best_alias
from cvx.tracking.run_link import RunLink
from cvx.tracking.upload import Upload, draw_all
from cvx.tracking.verify_upload import TABLE_FILE, arrived, recorded_steps, send_pictures
from cvx.tracking.wait_for_upload import drain
from cvx.tracking.wandb_process import finishing

Page = Callable[[Path], bytes]
"""Draws a finished run's own page, a self-contained HTML file, from its folder."""


@contextlib.contextmanager
def ending(upload: Upload, run: Any, link: RunLink, exit_code: Callable[[], int]) -> Iterator[None]:
    """Bring the run on W&B to its end whatever happens in the block, and note what was sent."""
    with as_oserror("wandb stopped working", also=()), finishing(run, exit_code):
        try:
            yield
        finally:
            link.save(upload.folder)


def send_samples(upload: Upload, run: Any, link: RunLink, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
    """Say which samples the run looks at; where W&B refuses them, the models are sent all the same.

    Raises:
        OSError: If W&B is gone.
    """
    if (samples := upload.samples()) is None:
        return
    try:
        artifacts.use_samples(run, samples, link, timeouts)
    except OSError:
        if not answers(timeouts):
            raise


def send_artifacts(
    upload: Upload,
    run: Any,
    link: RunLink,
    summary: Mapping[str, Any] | None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    page: Page | None = None,
) -> bool:
    """Send a run's samples, and of a finished one its final numbers and pictures, its page, models and records.

    All of it is waited for while it moves. Where W&B does not answer, the last step is held back with all that belongs
    to it: tables would keep a person waiting for minutes, and `publish` sends a step that has not arrived as a whole.

    Returns:
        Whether W&B is there; where it is not, there is no point in asking what has arrived.
    """
    if not answers(timeouts):
        return False
    steps: list[Callable[[], None]] = [functools.partial(send_samples, upload, run, link, timeouts)]
    if summary is not None:
        upload.finish(summary, draw(page, upload.folder))
        steps += _final(upload.folder, run, link, summary, timeouts)
    upload.flush()
    steps.append(functools.partial(drain, run, timeouts))
    for step in steps:
        try:
            step()
        except OSError as error:  # the next would only wait as long for nothing; `check` finds what did not arrive
            if there := answers(timeouts):
                print(one_line(error), file=sys.stderr, flush=True)
            return there
    return True


def _final(
    folder: Path, run: Any, link: RunLink, summary: Mapping[str, Any], timeouts: Timeouts
) -> list[Callable[[], None]]:
    """Return the steps that end a finished run: send models and records, then mark the best of all runs."""
    store, roles = Store(Run(folder).store_root), _roles(summary)
    models = [functools.partial(artifacts.log_model, run, link, role, store, summary[role], timeouts) for role in roles]
    records = functools.partial(artifacts.log_records, run, link, folder, timeouts)
    return [*models, records, functools.partial(_update_best_aliases, link, roles, timeouts)]


def _update_best_aliases(link: RunLink, roles: list[str], timeouts: Timeouts) -> None:
    """Say which version is best of every name that the run's models have on W&B."""
    versions = [VERSION.fullmatch(link.artifacts.get(role, "")) for role in roles]
    for name in sorted({match[3] for match in versions if match}):
        update_best_alias(f"{link.entity}/{link.project}", name, timeouts)


def send_code(run: Any, folder: Path) -> None:
    """Send cvx's source if the run was made with just this one: the same commit, and nothing changed since."""
    commit = str(Run(folder).config.get("git_commit", ""))
    if commit and commit == provenance()["git_commit"] and not commit.endswith("-dirty"):
        artifacts.log_code(run)


def draw(page: Page | None, folder: Path) -> bytes:
    """Draw a run's own page; one that cannot be drawn is said to be so, and keeps nothing else from W&B."""
    if page is None:
        return b""
    try:
        return page(folder)
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        print(f"W&B: the page of {folder.name} is left out, it could not be drawn: {one_line(error)}", file=sys.stderr)
        return b""


def _roles(summary: Mapping[str, Any]) -> list[str]:
    return [role for role in ("best", "last") if role in summary]


def complete_pictures(folder: Path, link: RunLink, scratch: Path, timeouts: Timeouts, page: Page | None) -> bool:
    """Draw again what W&B has rows of but no pictures; tell whether anything was sent."""
    known = arrived(link, timeouts=dataclasses.replace(timeouts, appear=0))
    if known is None or not known.missing_files:
        return False
    draw_all(folder, scratch / "drawn", draw(page, folder))
    lost = send_pictures(link, known.missing_files, scratch, timeouts)
    return len(lost) < len(known.missing_files)


def check(folder: Path, link: RunLink, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> str:
    """Compare W&B with the folder, note the result, and say what is missing, if anything is.

    Raises:
        OSError: If W&B does not answer.
    """
    recorded, summary = recorded_steps(folder), Run(folder).summary
    on_wandb = arrived(link, recorded, timeouts)
    if on_wandb is None:
        return "the run is not there"
    link.steps = len(on_wandb.steps & recorded)
    num_tables = sum(name.endswith(TABLE_FILE) for name in on_wandb.missing_files)
    missing = _missing(
        {
            "steps": len(recorded - on_wandb.steps),
            "tables": num_tables,
            "pictures": len(on_wandb.missing_files) - num_tables,
            "artifacts": sum(role not in link.artifacts for role in _expected(summary)),
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
