"""Choose an image by class, error or number."""
