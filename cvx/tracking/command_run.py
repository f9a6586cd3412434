"""Log a command that reads stored models as a run on W&B that uses the models' artifacts."""

import contextlib
import dataclasses
import math
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cvx.store import ModelEntry, Store
from cvx.tracking.account import (
    DEFAULT_TIMEOUTS,
    Target,
    Timeouts,
    as_oserror,
    client,
    one_line,
    reason_not_online,
    target,
)
from cvx.tracking.artifact_names import LONGEST
from cvx.tracking.artifacts import use_model
from cvx.tracking.best_alias import update_best_alias
from cvx.tracking.run_link import scratch_folder, settings, start
from cvx.tracking.wait_for_upload import drain
from cvx.tracking.wandb_process import finishing

NUM_PICTURES = 108
"""Pictures of one key that W&B shows at most."""


@dataclasses.dataclass
class Findings:
    """What a command read and found, gathered until it is done."""

    question: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What was asked: the run's config, under the command's name."""
    models: list[ModelEntry] = dataclasses.field(default_factory=list)
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    tables: dict[str, tuple[Sequence[str], list[list[Any]]]] = dataclasses.field(default_factory=dict)
    """Column names and rows, by key."""
    pictures: dict[str, list[tuple[Path, str]]] = dataclasses.field(default_factory=dict)
    """PNG files and their captions, by key."""


@contextlib.contextmanager
def log_command(
    command: str, mode: str, project: str, store: Store, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> Iterator[Findings]:
    """Gather what a command finds, and send it to W&B at its end where there is an account.

    The run's job type is the command; it uses the artifacts of the models, and its keys begin with the command's
    name, so that no panel takes them for a training run's. Nothing of W&B keeps the command from its own work: all is
    sent when the block is done, and what fails then is said in one line.

    Args:
        mode: `auto`, `on` or `off`, as for training.
        project: `[ENTITY/]PROJECT`, or nothing for WANDB_PROJECT or `cvx`.

    Raises:
        ValueError: If the project's name is wrong, or W&B is insisted on and there is no account.
    """
    where, offline, began = target(project), reason_not_online(mode), time.time()
    findings = Findings()
    yield findings
    in_sweep = bool(os.environ.get("WANDB_SWEEP_ID"))  # there is one run only, the trial's
    if offline or in_sweep or not findings.models or os.environ.get("RANK", "0") != "0":
        return
    try:
        print(f"W&B: {_send(command, findings, store, where, began, timeouts)}", file=sys.stderr)
    except OSError as error:
        print(f"W&B: {one_line(error)}. What was found is kept here only", file=sys.stderr)


def _send(
    command: str, findings: Findings, store: Store, where: Target, began: float, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> str:
    question = {**findings.question, "models": [entry.reference for entry in findings.models]}
    with scratch_folder() as scratch:
        run = _open(command, where, question, scratch, timeouts, began)
        with as_oserror("what was found did not arrive"), finishing(run):
            unknown = use_models(run, store, findings.models)
            run.log(_row(command, findings), step=0, commit=True)
            drain(run, timeouts)
    said = f"{command} is at {run.url}"
    if unknown:
        said += f"; not linked to {', '.join(unknown)}, which W&B has not got (python -m cvx publish sends runs)"
    return said


def _open(
    command: str, where: Target, question: dict[str, Any], scratch: Path, timeouts: Timeouts, began: float | None = None
) -> Any:
    chosen = settings(timeouts, console="off", x_disable_stats=True, x_start_time=began or time.time())
    place = {"entity": where.entity or None, "project": where.project, "id": secrets.token_hex(4)}
    name = f"{command} {', '.join(question['models'])}"[:LONGEST]
    return start(scratch, **place, name=name, job_type=command, config={command: question}, settings=chosen)


def use_models(run: Any, store: Store, entries: Sequence[ModelEntry]) -> list[str]:
    """Say that a run reads these models; return references of those that W&B has not got."""
    unknown = []
    for entry in entries:
        try:
            known = use_model(run, store, entry)
            if known and entry.card is not None and entry.card.role == "imported":  # it may have been sent just now
                update_best_alias(f"{run.entity}/{run.project}", entry.name)
        except OSError:  # deleted there, or not ours to see
            known = ""
        if not known:
            unknown.append(entry.reference)
    return unknown


def tell_use(command: str, where: Target, artifacts: Sequence[Any], timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
    """Note models as used by a run of a command; those that one of its kind has used before are left out.

    What fails is said in one line: a project that may only be read is read all the same.
    """
    if reason_not_online("auto"):  # WANDB_MODE=offline: what was pulled may be used, and no run is opened
        return
    try:
        with as_oserror(""), scratch_folder() as scratch:
            fresh = [artifact for artifact in artifacts if all(run.job_type != command for run in artifact.used_by())]
            if not fresh:
                return
            run = _open(command, where, {"models": [artifact.qualified_name for artifact in fresh]}, scratch, timeouts)
            with finishing(run):
                for artifact in fresh:
                    run.use_artifact(artifact.qualified_name, type=artifact.type)
    except OSError as error:
        print(f"W&B: not told that the {command} uses these models: {one_line(error)}", file=sys.stderr)


def _row(command: str, findings: Findings) -> dict[str, Any]:
    wandb = client()
    row: dict[str, Any] = {f"{command}/{key}": value for key, value in findings.numbers.items()}
    for key, (columns, cells) in findings.tables.items():
        data = [[_known(cell) for cell in line] for line in cells]
        row[f"{command}/{key}"] = wandb.Table(columns=list(columns), data=data)
    for key, pictures in findings.pictures.items():
        drawn = [wandb.Image(str(path), caption=caption) for path, caption in pictures[:NUM_PICTURES]]
        row[f"{command}/{key}"] = drawn
    return row


def _known(value: Any) -> Any:
    """Return a table's cell; what is not known is not a number there."""
    return math.nan if value is None else value
