"""Check a store and clear it up.

doctor          the whole store → findings; changes nothing
check_models    models and samples
check_runs      runs
check_results   kept comparison results, and sweeps
check_outputs   figures, maps, tables, reports
finding         `Finding`, and what all checks ask of files
prune           old versions, leftovers and stale results: found, and deleted
"""

from cvx.store.maintenance.doctor import examine
from cvx.store.maintenance.finding import Finding
from cvx.store.maintenance.prune import Item, Keep, plan, remove

__all__ = ["Finding", "Item", "Keep", "examine", "plan", "remove"]
