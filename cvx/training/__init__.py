"""Train a model: the loop, one run's session, one step, the saved state."""
