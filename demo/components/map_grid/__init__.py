"""A grid of maps: one row a dataset, one column a model."""
