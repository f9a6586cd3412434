"""A store whose cards are read once, for a command that asks for its models many times."""

from pathlib import Path

from cvx.store.store import ModelEntry, Store


class ReadOnce(Store):
    """A store whose models are as they were when each was first asked for: for reading, and for one command only."""

    def __init__(self, root: Path | str):
        super().__init__(root)
        self._read: dict[str, list[ModelEntry]] = {}

    def versions(self, name: str) -> list[ModelEntry]:
        """List the versions of one model, oldest first; what was read once is not read again."""
        if name not in self._read:
            self._read[name] = super().versions(name)
        return list(self._read[name])
