"""Files on disk: models, runs, samples, and the checks that keep them whole.

store          names, versions and aliases of models; samples
checkpoint     one model's weights and card
runs           one run's folder: writer and reader
samples        the fixed test images that travel with models
npz            arrays in one file: film frames, embeddings
provenance     git commit and library versions
layout         names of folders
maintenance/   doctor checks a store, prune clears it
"""

from cvx.store.store import ModelEntry, Store

__all__ = ["ModelEntry", "Store"]
