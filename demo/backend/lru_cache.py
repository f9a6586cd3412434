"""A cache of bounded size that drops what was used least recently."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LRUCache(Generic[Value]):
    """A cache that drops what was used least recently when the sum of sizes exceeds its bound."""

    def __init__(self, max_size: int):
        self._max_size = max_size
        self._size = 0
        self._items: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._making = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def find(self, key: Hashable) -> Value | None:
        """Return what is kept under the key, if anything is."""
        with self._lock:
            if key not in self._items:
                return None
            self._items.move_to_end(key)
            return self._items[key][0]

    def get(self, key: Hashable, make: Callable[[], tuple[Value, int]]) -> Value:
        """Return what is kept under the key, or make it; the newest is kept whatever its size.

        Things are made one after another, each once, while what is kept is found at once.
        """
        if (kept := self.find(key)) is not None:
            return kept
        with self._making:
            if (kept := self.find(key)) is not None:  # made while this one waited
                return kept
            value, size = make()
            self._keep(key, value, size)
            return value

    def _keep(self, key: Hashable, value: Value, size: int) -> None:
        with self._lock:
            self._items[key] = (value, size)
            self._size += size
            while self._size > self._max_size and len(self._items) > 1:
                self._size -= self._items.popitem(last=False)[1][1]
