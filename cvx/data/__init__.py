"""Datasets by name, as uint8 arrays: `load` reads, caches and splits them.

loading       the names; one dataset → three splits
readers/      published files → `Source`; download, image_file and npy_writer are their tools
dataset_types the types: `Source`, `Split`, `Splits`
make_splits   the order of images, and the cut into splits
decoding      images decoded, fitted and digested
cache         the arrays on disk
batches       shuffled batches on the device; augment changes their images
transforms    images and masks fitted to a model's size and channels
"""

from cvx.data.loading import DATASETS, load, source_of, split_source

__all__ = ["DATASETS", "load", "source_of", "split_source"]
