"""A cache within bounds."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Bounded(Generic[Value]):
    """A cache that drops what was used least recently when the sum of sizes exceeds its bound."""

    def __init__(self, max_size: int):
        self._max_size, self._size = max_size, 0
        self._items: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Hashable, make: Callable[[], tuple[Value, int]]) -> Value:
        """Return what is kept under the key, or make it; the newest is kept whatever its size."""
        if key in self._items:
            self._items.move_to_end(key)
            return self._items[key][0]
        value, size = make()
        self._items[key] = (value, size)
        self._size += size
        while self._size > self._max_size and len(self._items) > 1:
            self._size -= self._items.popitem(last=False)[1][1]
        return value
