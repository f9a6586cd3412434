"""Show which old versions, leftovers and stale results of a store can go; delete them with --yes."""

import dataclasses

import cvx.cli
from cvx.cli.flags import InStore


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneFlags(InStore):
    """Show what can go from a store and how much room it takes; best and latest never go."""

    keep: int = 1
    """Newest versions of every model that stay, beside best, latest and those that a run names."""
    runs: bool = False
    """Let versions go, too, that the summary of a run names."""
    measures: bool = False
    """Let all kept results of `compare` go, not only those about models that are gone."""
    yes: bool = False
    """Delete; without it, only show."""


def main(argv: list[str]) -> int:
    """Show what can go, and with --yes delete it; exit code 1 if something had to stay."""
    flags = cvx.cli.parse(PruneFlags, argv, "prune")
    from cvx.store.maintenance import Keep, plan, remove

    root, keep = flags.root, Keep(newest=flags.keep, runs=not flags.runs, measures=not flags.measures)
    items = plan(root, keep)
    stayed = 0
    for item in items:
        left = flags.yes and not remove(item, keep, root)
        stayed += left
        why = "in use, stays" if left else item.why
        print(f"{item.num_bytes / 1e6:10.1f} MB  {item.path.relative_to(root)}  ({why})")
    total = sum(item.num_bytes for item in items) / 1e6
    done = "gone" if flags.yes else "would go; --yes deletes it"
    print(f"{total:10.1f} MB  {done}" if items else f"{root}: nothing to prune")
    return 1 if stayed else 0
