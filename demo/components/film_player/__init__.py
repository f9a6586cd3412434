"""Play maps through training."""
