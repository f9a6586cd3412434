"""Bring a W&B project's models, samples and records into the local store."""

import dataclasses
import sys

import tyro

import cvx.cli
from cvx.cli.flags import InStore, store_flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class PullFlags(InStore):
    """Bring models with their samples and runs from W&B into the store: only what is new, checked by digest."""

    project: tyro.conf.Positional[str]
    """[ENTITY/]PROJECT."""
    alias: str = "best"
    """Which version of each model: best, latest, v3, …, or all."""


def main(argv: list[str]) -> int:
    """Pull and say what became of every artifact; exit code 1 if one was refused."""
    flags = cvx.cli.parse(PullFlags, argv, "pull")
    from cvx.tracking import Pulled, pull, target

    def tell(done: int, total: int, one: Pulled) -> None:
        print(f"[{done}/{total}] {one.status:<8} {one.kind:<8} {one.name}  {one.error or one.where}")

    pulled = pull(flags.root, target(flags.project), flags.alias, progress=tell)
    counts = {status: sum(one.status == status for one in pulled) for status in ("new", "known", "refused")}
    print(", ".join(f"{num} {status}" for status, num in counts.items()))
    print(f"demo:  python demo/app.py{store_flag(flags.artifacts)}")
    if counts["refused"]:
        print("refused artifacts were left out; the lines above say why", file=sys.stderr)
    return 1 if counts["refused"] else 0
