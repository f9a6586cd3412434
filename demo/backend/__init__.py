"""The page's questions to cvx: models, samples, maps, predictions, run records."""
