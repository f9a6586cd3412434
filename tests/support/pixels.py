"""What a picture holds."""

import numpy as np


def holds(figure, tile):
    """Tell whether a tile stands in a figure pixel by pixel."""
    h, w = tile.shape[:2]
    rows, columns = np.nonzero((figure[: -h + 1, : -w + 1] == tile[0, 0]).all(axis=-1))
    return any(np.array_equal(figure[y : y + h, x : x + w], tile) for y, x in zip(rows, columns, strict=True))
