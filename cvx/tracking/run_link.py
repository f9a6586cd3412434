"""Open a run folder's counterpart on W&B, and remember it in the folder's `wandb.json`."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cvx.files import read_json, write_json
from cvx.processes import ROOT
from cvx.store.runs import Run
from cvx.tracking import wandb_process
from cvx.tracking.account import DEFAULT_TIMEOUTS, Target, Timeouts, api, as_oserror, client
from cvx.tracking.artifact_names import LONGEST, TAG, next_id, run_id

FILE = "wandb.json"
GONE = "previously created and deleted"
"""What W&B says of the id of a deleted run: it is never given out again."""
IN_USE = "is in use"
"""What wandb's own process says of the id of a run whose start has failed before: it keeps that for itself."""
ATTEMPTS = 5
"""Ids that are tried for a run whose counterpart was deleted."""


@dataclasses.dataclass
class RunLink:
    """Where a run is on W&B, and what of it has arrived."""

    entity: str
    project: str
    id: str
    url: str = ""
    complete: bool = False
    """Every step, picture and artifact has been seen on W&B."""
    steps: int = 0
    """Steps seen there."""
    artifacts: dict[str, str] = dataclasses.field(default_factory=dict)
    """W&B's name and version of what was sent, by role: samples, best, last, records."""

    @property
    def path(self) -> str:
        """Return the run as W&B's API names it."""
        return f"{self.entity}/{self.project}/{self.id}"

    def save(self, folder: Path) -> None:
        """Write it into the run's folder."""
        write_json(folder / FILE, dataclasses.asdict(self))


def read_link(folder: Path) -> RunLink | None:
    """Return where a run is on W&B, or None if it was never sent there.

    Raises:
        ValueError: If what was noted is damaged.
    """
    if not (folder / FILE).is_file():
        return None
    content = read_json(folder / FILE)
    known = {field.name for field in dataclasses.fields(RunLink)}
    try:
        return RunLink(**{key: value for key, value in content.items() if key in known})
    except TypeError as error:
        raise ValueError(f"{folder / FILE} is damaged ({error}); delete it, and `publish` sends the run anew") from None


def link_for(folder: Path, target: Target) -> RunLink:
    """Return the run's place on W&B, or choose one: its folder's name is its id, unless a sweep gave it one.

    Raises:
        ValueError: If it already lies in another project.
    """
    known = read_link(folder)
    if known is None:
        return RunLink(target.entity, target.project, os.environ.get("WANDB_RUN_ID") or run_id(folder.name))
    other_entity = target.entity and known.entity and target.entity != known.entity
    if other_entity or target.project != known.project:
        raise ValueError(
            f"run {folder.name} is already on W&B as {known.path}, not in {target};"
            f" give --project={known.entity}/{known.project}, or delete {folder / FILE} to publish it anew"
        )
    return known


def next_link(link: RunLink) -> RunLink:
    """Return the place of the same run under another id; its models are on W&B already."""
    return RunLink(link.entity, link.project, next_id(link.id), artifacts=dict(link.artifacts))


def of_sweep(folder: Path, link: RunLink) -> bool:
    """Tell whether the run on W&B is one that an agent made for its sweep, whose id must stay."""
    made = Run(folder).config.get("place", {}).get("sweep") and folder.name.endswith(f"-{link.id}")
    return bool(made or os.environ.get("WANDB_SWEEP_ID"))


def claim(folder: Path, link: RunLink, timeouts: Timeouts, say: Callable[[str], None]) -> bool:
    """Choose an id that no other local run has; tell whether W&B has a run under it for this folder.

    `WANDB_RUN_ID` stays set while one training follows another: what is there already is then not this folder's, and
    the run gets an id of its own. A run that W&B's agent has made waits for its training, and is taken.

    Raises:
        OSError: If W&B does not answer.
    """
    while not os.environ.get("WANDB_SWEEP_ID") and (there := _find(link, timeouts)) is not None:
        if there.display_name == folder.name[:LONGEST] or there.state == "pending":
            return True
        taken, own = link.id, run_id(folder.name)
        link.id = own if own != taken else next_id(taken)
        say(f"W&B: {there.url} is the run of {there.display_name}; {folder.name} gets one of its own, {link.id}")
    return False


def _find(link: RunLink, timeouts: Timeouts) -> Any:
    """Return W&B's run of that id, or None if there is none."""
    try:
        with as_oserror("W&B does not answer"):
            return api(timeouts).run(link.path)
    except OSError as error:
        if "not find run" in str(error) or "404" in str(error):
            return None
        raise


def last_step(link: RunLink, timeouts: Timeouts) -> int:
    """Return the last step of a run that W&B has, or -1.

    Raises:
        OSError: If W&B does not answer.
    """
    run = _find(link, timeouts)
    return -1 if run is None else int(run.lastHistoryStep)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder for wandb's own files and for pictures on their way; it is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="cvx-wandb-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def open_run(
    folder: Path, link: RunLink, scratch: Path, *, new: bool, live: bool, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> Any:
    """Create the run on W&B or continue it, and note where it is.

    A run that was deleted on W&B is created anew under another id, as W&B gives none out twice; of what was sent of it
    nothing is counted on.

    Args:
        new: W&B has no such run; one that another process has begun meanwhile is not joined.
        live: The run is at work in this process: its output, machine and code state are recorded too.

    Raises:
        OSError: If W&B does not answer, or does not let us in.
    """
    content = Run(folder).config
    where = content.get("place", {})
    options = {
        "name": folder.name[:LONGEST],
        "config": {**content["config"], "key": content["key"]},
        "tags": [tag[:TAG] for tag in where.get("tags") or ()] or None,
        "group": (where.get("group") or "")[:LONGEST] or None,
        "notes": where.get("notes") or None,
        "job_type": "train",
        "settings": _settings(content, live, timeouts),
    }
    for _ in range(ATTEMPTS):
        try:
            run = start(scratch, **_identity(link, new), **options)
            break
        except OSError as error:
            if GONE not in str(error):
                raise
            link.id, link.steps, link.artifacts = next_id(link.id), 0, {}
    else:
        raise OSError(f"W&B refuses every id for run {folder.name}, up to {link.id}: its runs were deleted there")
    link.entity, link.project, link.id, link.url = run.entity, run.project, run.id, run.url or ""
    link.complete = False
    link.save(folder)
    return run


def start(scratch: Path, **options: Any) -> Any:
    """Open a run on W&B that no other of this process is mixed up with.

    Raises:
        OSError: If W&B does not answer, or does not let us in.
    """
    options |= {"dir": os.environ.get("WANDB_DIR") or str(scratch), "reinit": "create_new"}
    with as_oserror("W&B cannot be reached"):
        try:
            return client().init(**options)
        except Exception as error:
            if IN_USE not in str(error):
                raise
            wandb_process.restart()  # it would refuse the id of a run that failed to start for as long as it lives
            return client().init(**options)


def _identity(link: RunLink, new: bool) -> dict[str, Any]:
    if os.environ.get("WANDB_SWEEP_ID"):  # the agent has chosen project and id
        return {"resume": "allow"}
    return {
        "entity": link.entity or None,
        "project": link.project,
        "id": link.id,
        "resume": "never" if new else "allow",
    }


def _settings(content: dict[str, Any], live: bool, timeouts: Timeouts) -> Any:
    chosen: dict[str, Any] = {"x_start_time": datetime.fromisoformat(content["created"]).timestamp()}
    checkout = (ROOT / ".git").exists()  # and not the repository one happens to stand in, or has installed cvx in
    chosen |= {"git_root": str(ROOT)} if checkout else {"disable_git": True}
    if not live:  # a replay says nothing of the machine and the code that the run was made with
        chosen |= {"console": "off", "x_disable_stats": True, "x_disable_meta": True, "disable_git": True}
        chosen |= {"save_code": False, "git_commit": content.get("git_commit", "").removesuffix("-dirty") or None}
    return settings(timeouts, **chosen)


def settings(timeouts: Timeouts, **chosen: Any) -> Any:
    """Return wandb's settings: quiet, with bounded timeouts, and as its own variables say where they are set."""
    chosen |= {"silent": True, "init_timeout": timeouts.connect, "finish_timeout": timeouts.finish}
    given = {name.lower() for name in os.environ}  # WANDB_CONSOLE=off and the like are the user's word
    return client().Settings(**{name: value for name, value in chosen.items() if f"wandb_{name}" not in given})
