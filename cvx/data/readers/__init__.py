"""One reader a dataset: files as they are published → `Source`."""
