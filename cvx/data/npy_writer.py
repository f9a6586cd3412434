"""Write a .npy file row by row, resumable after an interruption from the last save."""

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from cvx.files import read_json, write_json

SAVE_EVERY_S = 10.0
"""Work that a killed process may lose. A save waits for the disk, so short work is never saved."""


class NpyAppender:
    """Some .npy files of known final shape, to which the same rows are appended in step.

    Into a writable memory map a full disk would come as a SIGBUS; into a file it comes as an OSError.
    """

    def __init__(self, folder: Path, arrays: Mapping[str, tuple[type, tuple[int, ...]]]) -> None:
        """Open the files `<name>.npy` of dtype and shape, behind the rows that were saved before."""
        self._mark = folder / "saved.json"
        headers = {name: _header(*kind) for name, kind in arrays.items()}
        widths = {name: np.dtype(dtype).itemsize * int(np.prod(shape[1:])) for name, (dtype, shape) in arrays.items()}
        self.num_saved = self._saved(folder, {name: (len(headers[name]), widths[name]) for name in arrays})
        """Rows that lie in the files already."""
        self._files = {name: (folder / f"{name}.npy").open("r+b" if self.num_saved else "wb") for name in arrays}
        self._dtypes = {name: dtype for name, (dtype, _) in arrays.items()}
        for name, file in self._files.items():
            if self.num_saved:
                file.truncate(len(headers[name]) + self.num_saved * widths[name])
                file.seek(0, os.SEEK_END)
            else:
                file.write(headers[name])
        self._num, self._when = self.num_saved, time.monotonic()

    def _saved(self, folder: Path, sizes: Mapping[str, tuple[int, int]]) -> int:
        """Return the rows that the mark vouches for, 0 if a file of them is missing or shorter."""
        try:
            num = int(read_json(self._mark)["rows"])
            there = all((folder / f"{name}.npy").stat().st_size >= h + num * w for name, (h, w) in sizes.items())
            return max(0, num) if there else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def append(self, **rows: np.ndarray) -> None:
        """Append some rows to every file; now and then they are saved."""
        for name, values in rows.items():
            self._files[name].write(np.ascontiguousarray(values, self._dtypes[name]).data)
        self._num += len(next(iter(rows.values())))
        if time.monotonic() - self._when >= SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Wait until all rows are on the disk, then leave a mark that says how many."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        write_json(self._mark, {"rows": self._num})
        self._when = time.monotonic()

    def __enter__(self) -> "NpyAppender":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Save what a person's Ctrl-C cut short; else close."""
        try:
            if isinstance(error, KeyboardInterrupt):
                self.save()
        finally:
            for file in self._files.values():
                file.close()


def _header(dtype: type, shape: tuple[int, ...]) -> bytes:
    content = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(content, {"descr": descr, "fortran_order": False, "shape": shape})
    return content.getvalue()
