"""What is asked of runs and of their rows: filters, orders and samples."""

import json
from collections.abc import Callable
from typing import Any

from wandb_server.graphql import QueryError
from wandb_server.state import Run

Object = dict[str, Any]


def history_keys(lines: list[str]) -> Object | None:
    """Say which keys a run's rows have, and of which kind their values are."""
    rows = [json.loads(line) for line in lines]
    if not rows:
        return None
    keys: Object = {}
    for row in rows:
        for key, value in row.items():
            kind = "number" if isinstance(value, int | float) else type(value).__name__
            counts = keys.setdefault(key, {"typeCounts": [{"type": kind, "count": 0}]})["typeCounts"][0]
            counts["count"] += 1
    return {"sets": [], "keys": keys, "lastStep": max(row["_step"] for row in rows)}


def sampled(lines: list[str], spec: Object) -> list[Object]:
    """Return the rows that have all keys asked for."""
    keys = spec.get("keys") or []
    rows = [json.loads(line) for line in lines]
    return [{key: row[key] for key in keys} if keys else row for row in rows if all(key in row for key in keys)]


_FILTERED: dict[str, Callable[[Run], Any]] = {
    "created_at": lambda run: run.created_at,
    "name": lambda run: run.name,
    "displayName": lambda run: run.fields.get("displayName"),
    "display_name": lambda run: run.fields.get("displayName"),
    "group": lambda run: run.fields.get("groupName"),
    "jobType": lambda run: run.fields.get("jobType"),
    "job_type": lambda run: run.fields.get("jobType"),
    "state": lambda run: run.state,
    "sweep": lambda run: run.sweep.name if run.sweep else None,
    "tags": lambda run: run.tags,
}


def matches(run: Run, wanted: Object) -> bool:
    """Judge the simple part of the query language: equality, `$in`, `$and`, `$or`, config and summary values."""
    for key, value in wanted.items():
        if key in ("$and", "$or"):
            judge = all if key == "$and" else any
            if not judge(matches(run, one) for one in value):
                return False
        elif not _equals(value_of(run, key), value):
            return False
    return True


def value_of(run: Run, key: str) -> Any:
    """Return what a filter or an order names of a run."""
    if key in _FILTERED:
        return _FILTERED[key](run)
    place, _, rest = key.partition(".")
    if place == "config":
        content = json.loads(run.fields.get("config") or "{}")
        return content.get(rest.removesuffix(".value"), {}).get("value")
    if place == "summary_metrics":
        return json.loads(run.fields.get("summaryMetrics") or "{}").get(rest)
    raise QueryError(f"runs cannot be filtered by {key!r} here")


def _equals(have: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        if set(wanted) != {"$in"}:
            raise QueryError(f"unknown filter {wanted!r}")
        return any(one in wanted["$in"] for one in have) if isinstance(have, list) else have in wanted["$in"]
    return wanted in have if isinstance(have, list) and not isinstance(wanted, list) else have == wanted
