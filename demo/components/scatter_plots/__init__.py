"""2-D embeddings as points."""
