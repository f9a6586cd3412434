"""Agreement of each pair of models."""
