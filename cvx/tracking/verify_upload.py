"""Compare what W&B has of a run with what was recorded."""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cvx.store.runs import Run
from cvx.tracking.account import DEFAULT_TIMEOUTS, Timeouts, api, as_oserror
from cvx.tracking.run_link import RunLink
from cvx.tracking.wait_for_upload import see_through

TABLE_FILE = ".table.json"


@dataclasses.dataclass(frozen=True)
class Arrival:
    """What of a run can be read from W&B."""

    steps: frozenset[int]
    files: frozenset[str]
    wanted: frozenset[str]
    """Pictures that the rows name."""
    keys: frozenset[str]
    """What the rows hold."""

    @property
    def lost_tables(self) -> bool:
        """Tell whether a table's row came without it: it cannot be sent alone, as a picture can."""
        return any(name.endswith(TABLE_FILE) for name in self.missing_files)

    @property
    def missing_files(self) -> list[str]:
        """Return the pictures and tables that rows name and that have not come."""
        return sorted(self.wanted - self.files)


def recorded_steps(folder: Path) -> frozenset[int]:
    """Return the steps that a run's folder has rows of."""
    return frozenset(int(row["step"]) for row in Run(folder).rows())


def arrived(link: RunLink, expected: Iterable[int] = (), timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Arrival | None:
    """Read what W&B has of a run, waiting a little for what is expected; None if it has no such run.

    Raises:
        OSError: If W&B does not answer.
    """
    expected, deadline = frozenset(expected), time.monotonic() + timeouts.appear
    while True:
        on_wandb = _read(link, timeouts)
        whole = on_wandb is not None and expected <= on_wandb.steps and not on_wandb.missing_files
        if whole or time.monotonic() > deadline:
            return on_wandb
        time.sleep(1)


def _read(link: RunLink, timeouts: Timeouts) -> Arrival | None:
    interface = api(timeouts)
    try:
        with as_oserror("W&B does not answer"):
            run = interface.run(link.path)
            rows = list(run.scan_history())
            files = frozenset(file.name for file in run.files(per_page=1000) if file.size)  # a name may come first
            files -= _uncommitted(run, rows)
    except OSError as error:
        if "not find run" in str(error) or "404" in str(error):
            return None
        raise
    newest = {key: row["_step"] for row in rows for key in row}
    wanted = frozenset(
        name
        for row in rows
        for key, value in row.items()
        for name in _media(value)
        if newest[key] == row["_step"] or not name.endswith(TABLE_FILE)  # a table that was sent again replaces the old
    )
    keys = frozenset(key for row in rows for key in row)
    return Arrival(frozenset(int(row["_step"]) for row in rows), files, wanted, keys)


def _uncommitted(run: Any, rows: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the tables that are not there although their files are: what W&B shows is a table's artifact."""
    values = [value for row in rows for value in row.values() if isinstance(value, Mapping)]
    tables = [value for value in values if "artifact_path" in value]
    if not tables:
        return frozenset()
    committed = {
        str(path)
        for artifact in run.logged_artifacts()
        if artifact.type == "run_table" and artifact.state == "COMMITTED"
        for path in artifact.manifest.entries
    }
    return frozenset(
        value["path"]
        for value in tables
        if value["artifact_path"].partition("://")[2].partition("/")[2] not in committed
    )


def _media(value: Any) -> list[str]:
    """Return the files that a value of a row stands for."""
    if not isinstance(value, Mapping):
        return []
    if value.get("_type") == "images/separated":
        return list(value.get("filenames") or [])
    return [value["path"]] if isinstance(value.get("path"), str) else []


def send_pictures(
    link: RunLink, missing: Iterable[str], scratch: Path, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> list[str]:
    """Send pictures whose rows arrived without them; return the names of those that cannot be drawn again.

    W&B names a picture by the start of its sha256, and the same records give the same bytes. The run's page tells when
    it was made: the one that is there now takes the place of the one that was lost.

    Raises:
        OSError: If W&B does not take one.
    """
    drawn = {hashlib.sha256(path.read_bytes()).hexdigest()[:20]: path for path in scratch.rglob("*.png")}
    pages, lost, interface = list(scratch.rglob("*.html")), [], api()
    for name in missing:
        is_page = Path(name).suffix == ".html" and pages
        source = pages[0] if is_page else drawn.get(Path(name).stem.rpartition("_")[2])
        if source is None:
            lost.append(name)
            continue
        place = scratch / "again" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(source.read_bytes())
        with as_oserror(f"the picture {name} cannot be sent again"):
            upload = functools.partial(interface.run(link.path).upload_file, str(place), root=str(scratch / "again"))
            see_through(None, upload, timeouts)
    return lost
