"""Files on disk: runs, models, samples, and what keeps them whole."""

from cvx.store.store import ModelEntry, Store

__all__ = ["ModelEntry", "Store"]
