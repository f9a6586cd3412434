"""A store looked over and cleared up.

finding      what a check has to say, and the small questions that all checks ask of files
doctor       a whole store → findings; nothing is changed
shelves      models and samples
diary        runs
rest         kept measures and sweeps
written      pictures, maps, tables, reports
prune        what may go, and its going
"""

from cvx.store.maintenance.doctor import examine
from cvx.store.maintenance.finding import Finding
from cvx.store.maintenance.prune import Item, Keep, plan, remove

__all__ = ["Finding", "Item", "Keep", "examine", "plan", "remove"]
