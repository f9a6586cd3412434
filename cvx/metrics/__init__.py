"""Metrics on arrays: of logits, of maps, of embeddings. Arrays in, numbers out."""
