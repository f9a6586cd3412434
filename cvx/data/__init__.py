"""Datasets by name, as uint8 arrays: `load` reads, caches and splits them.

splits     what a dataset is, its order, how images are fitted
cache      the arrays on disk
batches    shuffling and augmentation on the device
digits  shapes                                     nothing to download
cifar  tiny_imagenet  fashion_mnist  folder  hub   readers (with download, class_folders and image_file)
"""

from cvx.data.loading import DATASETS, load, source_of, split_source


def _own_size(source: Source, size: int, samples: Split) -> OwnSize | None:
    """Say how the samples are had at the source's own size; nothing if they have it, or it has none."""
    own = source.image_size
    if own in (0, size):
        return None
    name = "test" if "test" in source.parts else "train"
    rows = np.array(samples.ids)
    return OwnSize(fingerprint_of(source, own), lambda: read_rows(source.parts[name], name, rows, own))


__all__ = ["DATASETS", "load", "source_of", "split_source"]
