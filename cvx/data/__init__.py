"""Datasets by name, as uint8 arrays: `load` reads, caches and splits them.

splits     what a dataset is, its order, how images are fitted
cache      the arrays on disk
batches    shuffling and augmentation on the device
digits  shapes                                     nothing to download
cifar  tiny_imagenet  fashion_mnist  folder  hub   readers (with download, class_folders and image_file)
"""

from cvx.data.loading import DATASETS, load, source_of, split_source

__all__ = ["DATASETS", "load", "source_of", "split_source"]
