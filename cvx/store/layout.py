"""Names of the folders of a store: one under its root for each kind of thing."""

from pathlib import Path

WORK = ".pulling"
"""Folder of the store where downloads lie until they are whole; an interrupted one continues from its files."""


class StoreLayout:
    """Where a store keeps what; nothing is read or made."""

    def __init__(self, root: Path | str):
        self.root = Path(root)

    @property
    def models_root(self) -> Path:
        """Return the folder of models: `<name>/v<k>`."""
        return self.root / "models"

    @property
    def samples_root(self) -> Path:
        """Return the folder of the datasets' fixed test images: `<dataset>/v<k>`."""
        return self.root / "samples"

    @property
    def runs_root(self) -> Path:
        """Return the folder of training runs: `<run>`."""
        return self.root / "runs"

    @property
    def measures_root(self) -> Path:
        """Return the folder of results kept between comparisons: `<kind>/<digest>.npz`."""
        return self.root / "measures"

    @property
    def sweeps_root(self) -> Path:
        """Return the folder of sweeps: `<sweep>`."""
        return self.root / "sweeps"

    @property
    def attributions_root(self) -> Path:
        """Return the folder of drawn maps: `<dataset>/<model>`."""
        return self.root / "attributions"

    @property
    def comparisons_root(self) -> Path:
        """Return the folder of tables and figures of comparisons."""
        return self.root / "compare"

    @property
    def reports_root(self) -> Path:
        """Return the folder of reports."""
        return self.root / "reports"
