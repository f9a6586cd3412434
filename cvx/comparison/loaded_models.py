"""Models in memory, loaded once for all measures of a command, within a bound."""

from collections import OrderedDict

import torch

from cvx.models import Classifier
from cvx.store import ModelEntry, checkpoint
from cvx.store.checkpoint import Card

KEPT = 2**30
"""Bytes of weights that stay loaded between measures: twenty-four of a ResNet-18's size."""


class LoadedModels:
    """Loads models and keeps those that were used last, until their weights exceed a bound; then it loads them anew.

    Models that somebody holds are in memory whatever the bound. One thread at a time may use it.
    """

    def __init__(self, max_bytes: int = KEPT) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, str], tuple[Classifier, int]] = OrderedDict()

    def load(self, entry: ModelEntry, card: Card, device: torch.device | str) -> Classifier:
        """Return a stored model on a device; its card, which was read before, is not read again.

        Raises:
            DamagedError: If the weights are missing, are not those of the card, or do not fit the model.
        """
        key = (str(entry.folder), str(torch.device(device)))
        if key not in self._kept:
            classifier = checkpoint.load(entry.folder, card)[0].to(device)
            num_bytes = sum(tensor.nbytes for tensor in classifier.state_dict().values())
            self._kept[key] = classifier, num_bytes
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > self._max_bytes:
            self._kept.popitem(last=False)
        return self._kept[key][0]
