"""Read .npz files of arrays: frames of a film, embeddings, kept results."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def read_arrays(path: Path, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read the named arrays of an .npz, or all; what is wrong is raised as zipfile, zlib or numpy say it."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:  # numpy leaves a damaged file open
        return {name: stored[name] for name in names or stored.files}


def read_frame(path: Path, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Read the named arrays of a frame, or all that it has.

    Raises:
        ValueError: If it is not there, is damaged or lacks one of them; the message names it.
        PermissionError: If it may not be read.
    """
    try:
        return read_arrays(path, names)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - zipfile, zlib and numpy raise whatever they stumble over
        why = str(error) or type(error).__name__
        raise ValueError(f"{path} is damaged ({why}); delete it and do without, or train the run again") from None
