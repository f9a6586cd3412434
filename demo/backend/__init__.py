"""What the page asks of cvx: models, samples, maps, predictions, run records."""
